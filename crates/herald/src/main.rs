//! The `herald` binary: the only place that ends the process. Everything else is in the library beside it.

use std::process::ExitCode;

fn main() -> ExitCode {
    herald::main()
}
