//! LLVM's fuzzer over one of the targets: `STEPWELL_FUZZ` names it, and arguments are libFuzzer's. With
//! `STEPWELL_FUZZ_SEEDS` it writes its first inputs into that folder instead, and prints the targets.

#![no_main]

mod seeds;

use libfuzzer_sys::fuzz_target;
use std::{path::PathBuf, process::exit, sync::LazyLock};

static TARGET: LazyLock<String> =
    LazyLock::new(|| std::env::var("STEPWELL_FUZZ").expect("STEPWELL_FUZZ names a target"));

fuzz_target!(
    init: {
        if let Some(folder) = std::env::var_os("STEPWELL_FUZZ_SEEDS") {
            seeds::write(&PathBuf::from(folder)).expect("a folder that can be written");
            exit(0);
        }
    },
    |data: &[u8]| if stepwell_rag::fuzz::targets().contains(&TARGET.as_str()) {
        stepwell_rag::fuzz::check(&TARGET, data);
    } else {
        stepwell_providers::fuzz::check(&TARGET, data);
    }
);
