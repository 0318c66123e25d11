//! Completions and manual pages.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::{Scratch, kquant, ok, refused, stderr};

/// The commands of `kquant COMMAND...`, from its help.
fn commands(of: &[&str]) -> Vec<String> {
    let help = ok(kquant(of.iter().copied().chain(["-h"])));
    let Some((_, list)) = help.split_once("Commands:\n") else { return Vec::new() };
    let lines = list.lines().take_while(|line| !line.is_empty());
    let names = lines.filter_map(|line| line.trim_start().split(' ').next());
    names.filter(|&name| name != "help").map(str::to_owned).collect()
}

#[test]
fn each_command_has_a_page() {
    let scratch = Scratch::new("man");
    let folder = scratch.path("new/man1");
    ok(kquant(["man", "-o", folder.to_str().unwrap()]));
    let mut expected = vec!["kquant.1".to_owned()];
    for command in commands(&[]) {
        let below = commands(&[&command]).into_iter().map(|name| format!("kquant-{command}-{name}.1"));
        expected.extend(below);
        expected.push(format!("kquant-{command}.1"));
    }
    assert!(expected.len() > 15 && expected.contains(&"kquant-imatrix-merge.1".to_owned()), "{expected:?}");
    let found = std::fs::read_dir(&folder).unwrap();
    let mut found: Vec<String> = found.map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    let again = kquant(["man", "-o", folder.to_str().unwrap()]);
    assert!(again.status.code() == Some(2) && stderr(&again).contains("exists"), "{}", stderr(&again));
    ok(kquant(["man", "--force", "-o", folder.to_str().unwrap()]));
    let page = std::fs::read_to_string(folder.join("kquant-imatrix-merge.1")).unwrap();
    assert_eq!(ok(kquant(["man", "imatrix", "merge"])), page);
    for part in [".TH KQUANT-IMATRIX-MERGE 1  \"kquant ", "imatrix\\-merge \\- ", "\\-\\-out", "Examples:"] {
        assert!(page.contains(part), "{part} in {page}");
    }
}

#[test]
fn other_commands_have_none() {
    let run = kquant(["man", "imatrix", "divide"]);
    refused("man", &run, "there is no command `divide`", std::path::Path::new("divide"));
}

#[test]
fn completions_are_scripts_that_know_commands_and_options() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = ok(kquant(["completions", shell]));
        for word in ["quantize", "no-tensor-first-split", "merge"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    refused("shell", &kquant(["completions", "csh"]), "csh", std::path::Path::new("csh"));
}

#[test]
fn bash_parses_its_completions_and_completes() {
    let script = ok(kquant(["completions", "bash"]));
    let Ok(mut bash) = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn() else {
        return; // There is no bash here.
    };
    bash.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(bash.wait().unwrap().success());
    let ask = "\nCOMP_WORDS=(kquant split --max-t); COMP_CWORD=2; _kquant kquant --max-t split; echo ${COMPREPLY[@]}";
    let run = Command::new("bash").arg("-c").arg(script + ask).output().unwrap();
    assert_eq!(ok(run).trim(), "--max-tensors");
}
