//! Ordinary programs of this machine at work under the default policy.

use std::process::{Command, Stdio};

use crate::rig::binary;

/// A shell script on `host`, in /tmp, that must end well and print `expected` last.
#[track_caller]
fn works(script: &str, expected: &str) {
    let store = tempfile::tempdir().unwrap();
    let output = Command::new(binary())
        .args(["run", "--rm", "--quiet", "--timeout", "100s", "--root"])
        .arg(store.path())
        .args(["-w", "/tmp", "host", "sh", "-ec", script])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.lines().last() == Some(expected),
        "{}: {said} {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Compiles `source` with `option` and runs it; its report must contain `expected`.
#[track_caller]
fn sanitizer_finds(option: &str, source: &str, expected: &str) {
    let script = format!(
        "printf '%s' '{source}' > a.c; gcc -g -fsanitize={option} a.c -o a; ./a 2>&1 | grep -o '{expected}' | head -n 1"
    );
    works(&script, expected);
}

#[test]
fn python_uses_processes_threads_and_locks() {
    works(
        "/usr/bin/python3 -c 'import multiprocessing, sqlite3, subprocess\n\
         with multiprocessing.Pool(2) as pool: total = sum(pool.map(abs, range(-100, 0)))\n\
         sqlite3.connect(\"/tmp/db\").execute(\"create table t (x)\")\n\
         subprocess.run([\"true\"], check=True)\n\
         print(total)'",
        "5050",
    );
}

#[test]
fn node_serves_itself_on_loopback() {
    works(
        "node -e 'const http = require(\"http\"); const server = http.createServer((q, r) => r.end(\"x\"));\n\
         server.listen(0, () => http.get({port: server.address().port}, r => { console.log(r.statusCode); process.exit() }))'",
        "200",
    );
}

#[test]
fn npm_installs_a_package() {
    works(
        "mkdir a b; (cd a; npm init -y); cd b; npm init -y; npm install --offline --no-audit ../a; ls node_modules",
        "a",
    );
}

#[test]
fn git_commits_and_clones() {
    works(
        "git init -q a; cd a; git config user.email a@example.org; git config user.name a; echo x > f; git add f\n\
         git commit -qm first; git clone -q . ../b; git -C ../b log --format=%s",
        "first",
    );
}

#[test]
fn sanitizers_find_what_they_look_for() {
    sanitizer_finds(
        "address",
        "#include <stdlib.h>\nint main(int n, char **v) { char *p = malloc(8); p[7 + n] = 1; return p[0]; }",
        "heap-buffer-overflow",
    );
    // The leak checker traces its own process.
    sanitizer_finds(
        "address",
        "#include <stdlib.h>\nvoid *volatile p; int main(void) { p = malloc(8); p = 0; return 0; }",
        "detected memory leaks",
    );
    sanitizer_finds(
        "undefined",
        "int main(int n, char **v) { int x = 2147483647; return x + n > 0; }",
        "signed integer overflow",
    );
    sanitizer_finds(
        "thread",
        "#include <pthread.h>\nint x; void *f(void *a) { x++; return a; }\n\
         int main(void) { pthread_t t; pthread_create(&t, 0, f, 0); x++; pthread_join(t, 0); return 0; }",
        "data race",
    );
}

#[test]
fn strace_traces() {
    works(
        "strace -f -e trace=execve sh -c 'true & wait' 2>&1 | tail -n 1",
        "+++ exited with 0 +++",
    );
}
