//! What the types of a state forbid: programs that must not compile, and what their authors are told. The words are the
//! compiler's of the toolchain the tests run on; `TRYBUILD=overwrite` writes them anew.

#[test]
fn programs_that_misuse_a_state_do_not_compile_and_are_told_why() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
