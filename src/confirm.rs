//! A question before something is lost.

use std::io::{BufRead, IsTerminal, Write};

use crate::failure::Failure;

/// Asks on the terminal and returns whether the answer was yes.
///
/// # Errors
/// There is no terminal to ask on: `instead` is what does it without a question.
pub fn ask(question: &str, instead: &str) -> Result<bool, Failure> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::new(
            format!("{question} There is no terminal to ask on"),
            instead,
        ));
    }
    let mut stderr = std::io::stderr();
    // Without an answer nothing is lost.
    let _ = write!(stderr, "{question} Go on? [y/N] ");
    let mut answer = String::new();
    let _ = stdin.lock().read_line(&mut answer);
    Ok(matches!(answer.trim(), "y" | "Y" | "yes" | "Yes"))
}
