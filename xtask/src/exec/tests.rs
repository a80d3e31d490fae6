use std::process::Command;

use super::{answer, command_line, command_line_with_variables, exec};

#[test]
fn a_command_line_can_be_pasted_into_a_shell() {
    let mut command = Command::new("cargo");
    command.args(["test", "--", "it's here", ""]);
    assert_eq!(command_line(&command), r"cargo test -- 'it'\''s here' ''");
}

#[test]
fn variables_that_are_set_are_shown_and_those_removed_are_not() {
    let mut command = Command::new("cargo");
    command.env("LLVM_PREFIX", "/usr/lib/llvm").env_remove("RUSTFLAGS").arg("install");
    assert_eq!(command_line_with_variables(&command), "LLVM_PREFIX=/usr/lib/llvm cargo install");
}

#[test]
fn a_failure_names_the_command_and_its_status() {
    let error = exec(Command::new("sh").args(["-c", "exit 3"])).unwrap_err();
    assert_eq!(error.to_string(), "`sh -c 'exit 3'` failed: exit status: 3");
}

#[test]
fn a_program_that_does_not_exist_is_named() {
    let error = exec(&mut Command::new("/nonexistent/program")).unwrap_err();
    assert_eq!(error.to_string(), "cannot start `/nonexistent/program`");
}

#[test]
fn only_a_successful_command_has_an_answer() {
    assert_eq!(answer(Command::new("echo").arg("yes")), Some("yes".to_owned()));
    assert_eq!(answer(&mut Command::new("false")), None);
    assert_eq!(answer(&mut Command::new("/nonexistent/program")), None);
}
