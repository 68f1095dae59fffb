//! Inputs that broke a promise once.

use super::check;

/// Target and input, as the fuzzer found them.
const FOUND: &[(&str, &[u8])] = &[
    // A zone of more hours than a number holds overflowed.
    ("headers", b"\0\x072024-01-01T00:00:00+9000000000000000000:00"),
    // A wait of less than a nanosecond was one of none.
    ("headers", b"\x01\x0a\x0055e-77\x0a"),
    // A number whose exponent left the range was shown as far as it had come, or not at all, as it was cut.
    ("partial_json", b"x421e9994709551616169672955"),
    ("partial_json", b"x[1e308,1e309"),
];

#[test]
fn what_broke_a_promise_once_breaks_it_no_more() {
    for (target, input) in FOUND {
        check(target, input);
    }
}
