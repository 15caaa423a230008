//! Fuzzes `restart`. Must never check anything itself: the test suite runs the same checks.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tacit_tests::decoders::run("restart", bytes));
