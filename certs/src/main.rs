//! The program `ordonnans-ca`.

fn main() -> std::process::ExitCode {
    ordonnans_certs::run(std::env::args_os())
}
