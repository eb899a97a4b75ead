//! The program `ordonnans`.

fn main() -> std::process::ExitCode {
    ordonnans_client::run(std::env::args_os())
}
