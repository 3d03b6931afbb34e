//! The binary: hands the process's arguments, environment and streams to the command line.

use doorward::clock::Clock;
use doorward::command_line::{self, Surroundings};
use doorward::random::Random;
use std::process::ExitCode;

fn main() -> ExitCode {
    // A variable that is no Unicode can't be one of ours.
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let surroundings = Surroundings {
        input: &mut std::io::stdin().lock(),
        output: &mut std::io::stdout().lock(),
        errors: &mut std::io::stderr(),
        environment,
        clock: Clock::system(),
        random: Random::system(),
    };
    ExitCode::from(command_line::run(std::env::args_os(), surroundings))
}
