//! The executable: parses, runs, maps the outcome to an exit code (0 ok, 1 runtime failure, 2 bad configuration or usage).

#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    sidewatch::cli::main()
}
