//! What the tests of mutants call, as targets of libFuzzer.
use std::path::Path;

pub use libfuzzer_sys;

pub mod formats;
pub mod program;

/// Writes whole files to the folder that `KQUANT_SEEDS` names, from where the fuzzer takes what it begins with.
pub fn write_seeds(whole: Vec<Vec<u8>>) {
    let Some(folder) = std::env::var_os("KQUANT_SEEDS") else { return };
    for (number, bytes) in whole.iter().enumerate() {
        std::fs::write(Path::new(&folder).join(format!("whole-{number}")), bytes).unwrap();
    }
}

/// A target: the reader and the whole files called `$name` of the module `$of`.
#[macro_export]
macro_rules! target {
    ($of:ident, $name:ident) => {
        $crate::libfuzzer_sys::fuzz_target!(
            init: $crate::write_seeds($crate::$of::seeds::$name()),
            |bytes: &[u8]| {
                $crate::$of::readers::$name(bytes);
            }
        );
    };
}
