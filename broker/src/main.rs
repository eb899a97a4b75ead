//! The program `ordonnans-broker`.

fn main() -> std::process::ExitCode {
    ordonnans_broker::run(std::env::args_os())
}
