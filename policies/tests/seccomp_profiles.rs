//! seccomp profiles of users: docker's JSON and runtime-spec's.

mod interpreter;

use interpreter::{Call, run};
use palisade_policies::seccomp::{from_json, x86_64::number};
use palisade_policies::{Error, Instruction};

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;

/// A failure with this errno.
const fn errno(number: u32) -> u32 {
    ERRNO | number
}

fn compiled(text: &str, capabilities: &[&str]) -> Vec<Instruction> {
    let capabilities: Vec<_> = capabilities
        .iter()
        .map(|capability| (*capability).to_owned())
        .collect();
    from_json(text, "profile.json", &capabilities, &[])
        .unwrap_or_else(|error| panic!("{error}"))
        .0
        .into_owned()
}

fn act(program: &[Instruction], name: &str, arguments: [u64; 6]) -> u32 {
    run(
        program,
        &Call::native(number(name).unwrap_or_else(|| panic!("{name}")), arguments),
    )
    .0
}

fn mistake(text: &str) -> String {
    match from_json(text, "profile.json", &[], &[]) {
        Err(error @ Error::File { .. }) => error.to_string(),
        Err(error) => panic!("not about the file: {error}"),
        Ok(_) => panic!("taken as right: {text}"),
    }
}

const DOCKER: &str = r#"{
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 38,
    "archMap": [{ "architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"] }],
    "syscalls": [
        { "names": ["read", "write", "mmap2", "a_call_of_the_future"], "action": "SCMP_ACT_ALLOW", "comment": "files" },
        { "names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": { "caps": ["CAP_SYS_ADMIN"] } },
        { "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95, "excludes": { "caps": ["CAP_SYS_ADMIN"] } },
        { "names": ["clone"], "action": "SCMP_ACT_ALLOW",
          "args": [{ "index": 0, "value": 2114060288, "op": "SCMP_CMP_MASKED_EQ" }] },
        { "names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{ "index": 0, "value": 40, "op": "SCMP_CMP_NE" }] },
        { "names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": { "arches": ["amd64", "x32"] } },
        { "names": ["cacheflush", "getpid"], "action": "SCMP_ACT_ALLOW", "includes": { "arches": ["arm64"] } },
        { "names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": { "minKernel": "4.8" } },
        { "names": ["kcmp"], "action": "SCMP_ACT_ALLOW", "includes": { "minKernel": "999.0" } },
        { "names": ["bpf"], "action": "SCMP_ACT_KILL_PROCESS" }
    ]
}"#;

#[test]
fn a_docker_profile_does_what_it_does_under_docker() {
    let program = compiled(DOCKER, &[]);
    assert_eq!(act(&program, "read", [0; 6]), ALLOW);
    assert_eq!(act(&program, "mount", [0; 6]), errno(38));
    assert_eq!(act(&program, "clone3", [0; 6]), errno(95));
    assert_eq!(act(&program, "clone", [0x11, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(
        act(&program, "clone", [0x1000_0011, 0, 0, 0, 0, 0]),
        errno(38)
    );
    assert_eq!(act(&program, "socket", [2, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(act(&program, "arch_prctl", [0; 6]), ALLOW);
    assert_eq!(act(&program, "getpid", [0; 6]), errno(38));
    assert_eq!(act(&program, "ptrace", [0; 6]), ALLOW);
    assert_eq!(act(&program, "kcmp", [0; 6]), errno(38));
    assert_eq!(act(&program, "bpf", [0; 6]), 0x8000_0000);
    let program = compiled(DOCKER, &["CAP_SYS_ADMIN"]);
    assert_eq!(act(&program, "mount", [0; 6]), ALLOW);
    assert_eq!(act(&program, "clone3", [0; 6]), errno(38));
}

#[test]
fn high_bits_do_not_slip_past_a_comparison_of_an_int() {
    let program = compiled(DOCKER, &[]);
    // The kernel would see family 40 (CVE-2019-10063).
    assert_eq!(
        act(&program, "socket", [(1 << 32) + 40, 0, 0, 0, 0, 0]),
        errno(38)
    );
    assert_eq!(
        act(&program, "clone", [(1 << 32) | 0x1000_0000, 0, 0, 0, 0, 0]),
        errno(38)
    );
}

#[test]
fn a_profile_of_hundreds_of_calls_stays_short() {
    let conditional = ["socket", "personality", "clone"];
    let names: Vec<_> = include_str!("moby-without-capabilities.txt")
        .split_whitespace()
        .filter(|name| !conditional.contains(name))
        .collect();
    // Docker lists the families that it allows one by one.
    let families = [
        13, 14, 15, 16, 17, 18, 21, 22, 24, 26, 27, 28, 29, 30, 31, 32, 33, 35, 36, 39, 41, 42, 43,
        44, 45,
    ];
    let families = families.map(|family| {
        format!(
            r#", {{ "names": ["socket"], "action": "SCMP_ACT_ALLOW",
                   "args": [{{ "index": 0, "value": {family}, "op": "SCMP_CMP_EQ" }}] }}"#
        )
    });
    let families = families.concat();
    let text = format!(
        r#"{{ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "defaultErrno": "EPERM", "syscalls": [
            {{ "names": {names:?}, "action": "SCMP_ACT_ALLOW", "args": null, "includes": {{}}, "excludes": {{}} }},
            {{ "names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{{ "index": 0, "value": 12, "op": "SCMP_CMP_LT" }}] }}
            {families} ] }}"#
    );
    let program = compiled(&text, &[]);
    for name in names {
        assert_eq!(act(&program, name, [0; 6]), ALLOW, "{name}");
    }
    for family in 0..50 {
        let allowed =
            family < 12 || text.contains(&format!("\"value\": {family},")) && family != 12;
        assert_eq!(
            act(&program, "socket", [family, 1, 0, 0, 0, 0]) == ALLOW,
            allowed,
            "family {family}"
        );
    }
    assert_eq!(act(&program, "kexec_load", [0; 6]), errno(1));
    assert!(program.len() < 150, "{} instructions", program.len());
}

#[test]
fn a_runtime_spec_profile_that_allows_by_default_still_refuses_x32_and_foreign_calls() {
    let program = compiled(
        r#"{ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "flags": ["SECCOMP_FILTER_FLAG_LOG"],
             "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 30,
                            "args": [{ "index": 1, "value": 5, "valueTwo": 0, "op": "SCMP_CMP_GE" }] },
                          { "name": "chmod", "action": "SCMP_ACT_TRAP" }, { "names": ["chown"], "action": "SCMP_ACT_LOG" },
                          { "names": ["kill"], "action": "SCMP_ACT_KILL" }, { "names": ["link"], "action": "SCMP_ACT_TRACE", "errnoRet": 5 }] }"#,
        &[],
    );
    assert_eq!(act(&program, "mkdir", [0, 4, 0, 0, 0, 0]), ALLOW);
    assert_eq!(act(&program, "mkdir", [0, 5, 0, 0, 0, 0]), errno(30));
    assert_eq!(act(&program, "mkdir", [0, 1 << 40, 0, 0, 0, 0]), errno(30));
    assert_eq!(act(&program, "chmod", [0; 6]), 0x0003_0000);
    assert_eq!(act(&program, "chown", [0; 6]), 0x7ffc_0000);
    assert_eq!(act(&program, "kill", [0; 6]), 0);
    assert_eq!(act(&program, "link", [0; 6]), 0x7ff0_0005);
    assert_eq!(act(&program, "read", [0; 6]), ALLOW);
    assert_eq!(
        run(&program, &Call::native(0x4000_0000 + 83, [0; 6])).0,
        errno(38)
    );
    let foreign = Call {
        number: 3,
        arch: 0x4000_0003,
        arguments: [0; 6],
    };
    assert_eq!(run(&program, &foreign).0, 0x8000_0000);
}

#[test]
fn rules_of_one_call_combine_as_under_dockers_runtimes() {
    let profile =
        |rules: &str| format!(r#"{{ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{rules}] }}"#);
    // Two conditions on one argument are alternatives.
    let program = compiled(
        &profile(
            r#"{ "names": ["alarm"], "action": "SCMP_ACT_ALLOW", "args": [
                { "index": 0, "value": 1, "op": "SCMP_CMP_EQ" }, { "index": 0, "value": 3, "op": "SCMP_CMP_EQ" }] }"#,
        ),
        &[],
    );
    assert_eq!(
        [0, 1, 2, 3].map(|n| act(&program, "alarm", [n, 0, 0, 0, 0, 0]) == ALLOW),
        [false, true, false, true]
    );
    // Those on several must all hold.
    let program = compiled(
        &profile(
            r#"{ "names": ["dup2"], "action": "SCMP_ACT_ALLOW", "args": [
                { "index": 0, "value": 1, "op": "SCMP_CMP_LE" }, { "index": 1, "value": 3, "op": "SCMP_CMP_LT" }] }"#,
        ),
        &[],
    );
    assert_eq!(act(&program, "dup2", [1, 2, 0, 0, 0, 0]), ALLOW);
    assert_eq!(act(&program, "dup2", [2, 2, 0, 0, 0, 0]), errno(1));
    assert_eq!(act(&program, "dup2", [1, 3, 0, 0, 0, 0]), errno(1));
    // A rule without conditions holds before one with, wherever it stands.
    let program = compiled(
        &profile(
            r#"{ "names": ["dup"], "action": "SCMP_ACT_TRAP", "args": [{ "index": 0, "value": 1, "op": "SCMP_CMP_GT" }] },
               { "names": ["dup"], "action": "SCMP_ACT_ALLOW" }"#,
        ),
        &[],
    );
    assert_eq!(act(&program, "dup", [2, 0, 0, 0, 0, 0]), ALLOW);
}

#[test]
fn what_is_wrong_with_a_profile_is_said_with_its_place() {
    for (text, words) in [
        ("", "profile.json:1:0: not a seccomp profile"),
        ("{}", "missing field `defaultAction`"),
        ("[]", "not a seccomp profile"),
        ("{\n \"defaultAction\": 7 }", "profile.json:2:"),
        (
            r#"{ "defaultAction": "SCMP_ACT_ALOW" }"#,
            "profile.json:1:21: unknown action \"SCMP_ACT_ALOW\"; did you mean \"SCMP_ACT_ALLOW\"?",
        ),
        (
            r#"{ "defaultAction": "SCMP_ACT_NOTIFY" }"#,
            "needs a listener",
        ),
        (
            r#"{ "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x" }"#,
            "listener",
        ),
        (
            r#"{ "defaultAction": "SCMP_ACT_ALLOW", "flags": ["X"] }"#,
            "unknown flag \"X\"",
        ),
        (
            r#"{ "defaultAction": "SCMP_ACT_ALLOW", "sycalls": [] }"#,
            "unknown field `sycalls`",
        ),
        (
            r#"{ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 5000 }"#,
            "above 4095",
        ),
        (
            "{ \"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [\n{ \"names\": [\"mkdri\"], \"action\": \"SCMP_ACT_ERRNO\" }] }",
            "profile.json:2:14: unknown system call \"mkdri\"; did you mean \"mkdir\"?",
        ),
        (
            r#"{ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["dup"], "action": "SCMP_ACT_ERRNO", "args": [{ "index": 6, "value": 0, "op": "SCMP_CMP_EQ" }] }] }"#,
            "index 6",
        ),
        (
            r#"{ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["dup"], "action": "SCMP_ACT_ERRNO", "args": [{ "index": 0, "value": 0, "op": "SCMP_CMP_EQUAL" }] }] }"#,
            "unknown comparison",
        ),
        (
            r#"{ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["dup"], "action": "SCMP_ACT_ERRNO", "includes": { "minKernel": "new" } }] }"#,
            "not a version",
        ),
    ] {
        let error = mistake(text);
        assert!(
            error.contains(words) && error.starts_with("profile.json:"),
            "{text}: {error}"
        );
    }
}

#[test]
fn a_profile_too_large_for_a_program_is_refused() {
    let rule = |value: u64| {
        format!(
            r#"{{ "names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{{ "index": 1, "value": {value}, "op": "SCMP_CMP_EQ" }}] }}"#
        )
    };
    let rules: Vec<_> = (0..1001).map(rule).collect();
    let text = format!(
        r#"{{ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{}] }}"#,
        rules.join(",")
    );
    assert!(mistake(&text).contains("more than 1000 conditions"));
    // Equal decisions are shared: each call looks at another argument.
    let many = |(index, name): (usize, &str)| {
        let rules = rules[..900]
            .join(",")
            .replace("\"read\"", &format!("{name:?}"));
        rules.replace("\"index\": 1", &format!("\"index\": {index}"))
    };
    let names: Vec<_> = ["read", "write", "open", "close", "stat", "poll"]
        .into_iter()
        .enumerate()
        .map(many)
        .collect();
    let names = names.join(",");
    let text = format!(r#"{{ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{names}] }}"#);
    assert!(matches!(
        from_json(&text, "profile.json", &[], &[]),
        Err(Error::ProgramTooLong { .. })
    ));
}
