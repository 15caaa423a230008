//! No decoder allocates more than a small multiple of what it was given: all of them run in a process that may not. Must never
//! measure this process, in which other tests run.

use super::mutate::Mutator;
use super::{corpus, run};
use std::process::Command;
use tacit_proto::{ClientMessage, ServerMessage, Wire as _};
use tacit_tests::decoders::{Decoder, all};

/// Set in the process whose memory is limited.
const INSIDE: &str = "TACIT_LIMITED_MEMORY";

/// Address space of that process in kibibytes: what a message of the largest kind, 64 MiB, may take, and no more.
const LIMIT_KIB: usize = 1 << 20;

#[test]
fn lengths_near_two_to_the_32_allocate_nothing() {
    if std::env::var_os(INSIDE).is_some() {
        return hostile_inputs();
    }
    let name = "decoders::memory::lengths_near_two_to_the_32_allocate_nothing";
    let program = std::env::current_exe().expect("the test's own program");
    // Other systems do not limit the address space this way; there the inputs run unlimited.
    let limit = if cfg!(target_os = "linux") { format!("ulimit -v {LIMIT_KIB} && ") } else { String::new() };
    let output = Command::new("sh")
        .args(["-c", &format!("{limit}exec \"$0\" --exact {name} --test-threads 1 --nocapture")])
        .arg(program)
        .env(INSIDE, "1")
        .env("RAYON_NUM_THREADS", "1")
        .output()
        .expect("a shell");
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{}\n{said}\n{failed}", output.status);
}

fn decoder(name: &str) -> Decoder {
    all().into_iter().find(|decoder| decoder.name == name).expect("in the table")
}

/// Empty messages under a field, within another field: two bytes each on the wire.
fn crowd(outer: u8, inner: u8, bytes: usize) -> Vec<u8> {
    let list = [inner << 3 | 2, 0].repeat(bytes / 2);
    let mut length = list.len();
    let mut message = vec![outer << 3 | 2];
    while length >= 0x80 {
        message.push(length as u8 | 0x80);
        length >>= 7;
    }
    message.push(length as u8);
    message.extend(list);
    message
}

fn hostile_inputs() {
    // The limit is there: twice of it cannot be had.
    #[cfg(target_os = "linux")]
    assert!(Vec::<u8>::new().try_reserve_exact((2 * LIMIT_KIB) << 10).is_err(), "the memory is not limited");

    // Messages as long as they may be, of the shortest entries that there are.
    for (outer, inner) in [(1, 2), (2, 1), (4, 2)] {
        let bytes = crowd(outer, inner, ServerMessage::MAX_BYTES - 16);
        assert!(bytes.len() <= ServerMessage::MAX_BYTES);
        assert!(!run(&decoder("wire_server_message"), "a crowd", &bytes));
    }
    let bytes = crowd(6, 2, ClientMessage::MAX_BYTES - 16);
    assert!(!run(&decoder("wire_client_message"), "a crowd", &bytes));

    // Shapes far larger than the bytes that come with them.
    for bits in [1, 16, 17, 32] {
        for dimension in [1_u32 << 28, (1 << 28) - 1, u32::MAX] {
            let bytes = [&[bits][..], &dimension.to_be_bytes(), &[0; 64]].concat();
            assert!(!run(&decoder("ring_vector"), "a shape", &bytes));
        }
    }
    for members in [u32::MAX, u32::MAX - 6, 1 << 31] {
        assert!(!run(&decoder("bitmap"), "a size", &[&members.to_be_bytes()[..], &[0; 64]].concat()));
    }

    // Every four bytes, and every varint, of every file as a length near 2^32.
    for decoder in all() {
        for (file, bytes) in corpus(decoder.name) {
            let step = 1 + bytes.len() / 60;
            for at in (0..bytes.len()).step_by(step) {
                for length in [&[0xff; 4][..], &[0xff, 0xff, 0xff, 0xff, 0x0f], &[0x7f, 0xff, 0xff, 0xff]] {
                    let mut changed = bytes.clone();
                    changed.iter_mut().skip(at).zip(length).for_each(|(byte, new)| *byte = *new);
                    run(&decoder, &file, &changed);
                }
            }
            let mut mutator = Mutator::new(decoder.name, 1 << 32);
            for _ in 0..10 {
                let bytes = mutator.mutate(&bytes, std::slice::from_ref(&bytes), decoder.longest);
                run(&decoder, &file, &bytes);
            }
        }
    }
}
