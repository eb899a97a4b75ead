//! The program `exercise`. It starts itself again in the role of the broker and of each daemon.

fn main() -> std::process::ExitCode {
    ordonnans_exercise::run(std::env::args_os())
}
