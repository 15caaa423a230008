//! Fuzzes `restored_head`. Must never check anything itself: the test suite runs the same checks.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tacit_tests::decoders::run("restored_head", bytes));
