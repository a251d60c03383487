//! What users of docker write, and what docker answers.

use serde_json::{Value, json};

use super::*;

fn sandbox() -> Value {
    json!({
        "Id": "4f5e",
        "Name": "/agent",
        "State": {"Running": true, "Pid": 42, "ExitCode": 0, "Health": {"Status": "healthy", "Log": []}},
        "Mounts": [
            {"Type": "bind", "Source": "/srv/w", "Destination": "/workspace", "RW": true},
            {"Type": "volume", "Name": "cache", "Destination": "/cache", "RW": false},
        ],
        "Config": {"Labels": {"a.b": "1", "c": "2"}, "Env": ["A=b", "C=d"], "Cmd": null},
        "HostConfig": {"NetworkMode": "none", "Memory": 536_870_912, "NanoCpus": 1_500_000_000},
        "NetworkSettings": {"Ports": {}},
    })
}

#[track_caller]
fn renders(template: &str, expected: &str) {
    let text = Template::parse(template).and_then(|template| template.render(&sandbox()));
    assert_eq!(text.as_deref(), Ok(expected), "{template}");
}

#[track_caller]
fn fails(template: &str, expected: &str) {
    let result = Template::parse(template).and_then(|template| template.render(&sandbox()));
    assert_eq!(result.unwrap_err().message, expected, "{template}");
}

#[test]
fn fields_print_as_docker_prints_them() {
    renders("{{.State.Running}}", "true");
    renders("{{.Id}} {{.ID}} {{ .id }}", "4f5e 4f5e 4f5e");
    renders("{{.State.Health.Status}}", "healthy");
    renders(
        "{{.HostConfig.NetworkMode}}/{{.HostConfig.Memory}}",
        "none/536870912",
    );
    renders("{{.Config.Env}}", "[A=b C=d]");
    renders("{{.Config.Labels}}", "map[a.b:1 c:2]");
    renders("{{json .State.Health}}", r#"{"Log":[],"Status":"healthy"}"#);
    renders("{{json .Config.Env}}", r#"["A=b","C=d"]"#);
    renders(
        "{{.}}x{{$.Name}}",
        &format!("{}x/agent", value::text(&sandbox())),
    );
    renders("json", &sandbox().to_string());
}

#[test]
fn maps_may_lack_a_key_and_structures_may_not() {
    renders("{{.Config.Labels.c}}{{.Config.Labels.none}}", "2<no value>");
    renders("{{with .Config.Labels}}{{.none}}{{end}}", "<no value>");
    renders(
        r#"{{index .Config.Labels "a.b"}}[{{index .Config.Labels "no"}}]"#,
        "1[]",
    );
    fails(
        "{{.State.Sleeping}}",
        "template: :1:2: executing \"\" at <.State.Sleeping>: map has no entry for key \"Sleeping\"",
    );
    fails(
        "a\nb {{.Name.First}}",
        "template: :2:4: executing \"\" at <.Name.First>: can't evaluate field First in type string",
    );
    fails(
        "{{.Config.Cmd.X}}",
        "template: :1:2: executing \"\" at <.Config.Cmd.X>: nil pointer evaluating .X: there is none",
    );
}

#[test]
fn conditions_and_loops_do_what_go_does() {
    renders("{{if .State.Running}}up{{else}}down{{end}}", "up");
    renders(
        "{{if .Config.Cmd}}x{{else if eq .State.Pid 42}}y{{else}}z{{end}}",
        "y",
    );
    renders(
        "{{with .Config.Cmd}}x{{else with .Name}}{{.}}{{end}}",
        "/agent",
    );
    renders(
        "{{range $i, $m := .Mounts}}{{if $i}}, {{end}}{{$i}}:{{$m.Destination}}={{.Type}}{{end}}",
        "0:/workspace=bind, 1:/cache=volume",
    );
    renders(
        "{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}",
        "a.b=1;c=2;",
    );
    renders("{{range .Config.Cmd}}x{{else}}none{{end}}", "none");
    renders(
        "{{range .Mounts}}{{if eq .Type \"volume\"}}{{break}}{{end}}{{.Type}}{{end}}",
        "bind",
    );
    renders(
        "{{range .Mounts}}{{if eq .Type \"bind\"}}{{continue}}{{end}}{{.Type}}{{end}}",
        "volume",
    );
    renders(
        "{{$n := 0}}{{range .Config.Env}}{{$n = .}}{{end}}{{$n}}",
        "C=d",
    );
    renders("{{range $i := 3}}{{$i}}{{end}}", "012");
    renders("{{(index .Mounts 0).Source}}", "/srv/w");
}

#[test]
fn white_space_is_trimmed_where_a_hyphen_says_so() {
    renders("a  {{- .Id -}}  b", "a4f5eb");
    renders("a {{/* nothing */}} b", "a  b");
    renders("a {{- /* nothing */ -}} b", "ab");
    renders("{{-3}}", "-3");
}

#[test]
fn functions_are_go_s_and_docker_s() {
    renders(
        r#"{{join .Config.Env ","}} {{upper .Id}} {{lower "AB"}} {{title "ab cd"}}"#,
        "A=b,C=d 4F5E ab Ab Cd",
    );
    renders(
        r#"{{index (split "a:b:c" ":") 1}} {{len .Mounts}} {{len .Name}}"#,
        "b 2 6",
    );
    renders(r#"{{println .Id 1}}{{print "a" 1 2 "b"}}"#, "4f5e 1\na1 2b");
    renders(r#"{{printf "%-6s|%03d" .Id .State.Pid}}"#, "4f5e  |042");
    renders(r#"{{truncate .Name 3}}[{{pad "x" 1 2}}]"#, "/ag[ x  ]");
    renders(
        "{{eq .State.Pid 1 42}} {{ne .Id \"x\"}} {{lt 1 2}} {{ge 2 2}}",
        "true true true true",
    );
    renders(
        "{{and .State.Running .Id}} {{or .Config.Cmd \"none\"}} {{not .State.Running}}",
        "4f5e none false",
    );
    // What decides ends it: the field that is not there is not looked at.
    renders(
        "{{or .State.Running .Nothing}}{{and .Config.Cmd .Nothing}}",
        "true<no value>",
    );
    renders(r#"{{.Id | printf "%s-%s" "x" | upper}}"#, "X-4F5E");
    renders(
        r#"{{slice .Id 1 3}} {{index .Config.Env 1}} {{"q\tq"}} {{`r\t`}} {{'a'}}"#,
        "f5 C=d q\tq r\\t 97",
    );
    fails(
        "{{eq .Id 1}}",
        "template: :1:2: executing \"\" at <eq>: error calling eq: incompatible types for comparison: string and int",
    );
    fails(
        "{{len}}",
        "template: :1:2: executing \"\" at <len>: wrong number of args for len: want 1 got 0",
    );
    fails(
        "{{index .Mounts 7}}",
        "template: :1:2: executing \"\" at <index>: error calling index: index out of range: 7",
    );
    fails(
        "{{.Id 3}}",
        "template: :1:2: executing \"\" at <.Id>: Id has arguments but cannot be invoked as function",
    );
}

#[test]
fn what_cannot_be_parsed_is_refused_with_its_place() {
    for (template, expected) in [
        ("{{.Id", "template: :1:0: unclosed action"),
        ("{{}}", "template: :1:2: missing value for command"),
        ("{{if .Id}}", "template: :1:0: if has no {{end}}"),
        ("{{end}}", "template: :1:7: unexpected {{end}}"),
        ("x\n{{else}}", "template: :2:0: unexpected {{else}}"),
        (
            "{{frobnicate .}}",
            "template: :1:2: function \"frobnicate\" not defined",
        ),
        ("{{$x}}", "template: :1:2: undefined variable \"$x\""),
        ("{{\"a}}", "template: :1:2: unterminated quoted string"),
        ("{{(.Id}}", "template: :1:2: unclosed left paren"),
        (
            "{{.Id | 3}}",
            "template: :1:8: non executable command in pipeline stage 2",
        ),
        (
            "{{1 2}}",
            "template: :1:2: can't give argument to non-function 1",
        ),
        ("{{break}}", "template: :1:0: {{break}} outside {{range}}"),
        ("{{/* }}", "template: :1:0: unclosed comment"),
        ("{{.Id ? }}", "template: :1:6: unexpected '?' in an action"),
        (
            "{{printf\"x\"}}",
            "template: :1:8: unexpected \"\\\"x\\\"\" in operand",
        ),
        (
            "{{true.X}}",
            "template: :1:6: unexpected . after term \"true\"",
        ),
        ("{{08}}", "template: :1:2: bad number syntax: \"08\""),
        (
            "{{if .Id}}{{else}}{{else}}{{end}}",
            "template: :1:18: expected {{end}}; found {{else}}",
        ),
        (
            "{{define \"x\"}}{{end}}",
            "template: :1:0: {{define}} is not understood here: one template, no named parts",
        ),
    ] {
        assert_eq!(
            Template::parse(template).unwrap_err().message,
            expected,
            "{template}"
        );
    }
}

#[test]
fn a_template_that_would_never_end_is_ended() {
    for template in [
        "{{range 999999999}}{{range 999999999}}x{{end}}{{end}}",
        "{{$x := \"ab\"}}{{range 99}}{{$x = print $x $x}}{{end}}{{$x}}",
        "{{$x := \"a\"}}{{range 22}}{{$x = print $x $x}}{{end}}{{range 99}}{{$x}}{{end}}",
    ] {
        let error = Template::parse(template).unwrap().render(&json!({}));
        assert!(
            error.unwrap_err().message.contains("no end in sight"),
            "{template}"
        );
    }
    let deep = "{{if .}}".repeat(200);
    assert!(
        Template::parse(&deep)
            .unwrap_err()
            .message
            .contains("too deeply")
    );
    let deep = format!("{{{{{}}}}}", "(".repeat(200));
    assert!(
        Template::parse(&deep)
            .unwrap_err()
            .message
            .contains("too deeply")
    );
}

const LISTING: Listing = Listing {
    headings: &[
        ("ID", "CONTAINER ID"),
        ("Names", "NAMES"),
        ("Status", "STATUS"),
        ("Labels", "LABELS"),
    ],
    table: "{{.ID}}\t{{.Status}}\t{{.Names}}",
    quiet: "{{.ID}}",
};

fn rows() -> Vec<Row> {
    [
        ("4f5e", "agent", "Up 3 minutes (healthy)"),
        ("77aa", "db", "Created"),
    ]
    .into_iter()
    .map(|(id, name, status)| {
        Row::new([
            ("ID", id.into()),
            ("Names", name.into()),
            ("Status", status.into()),
        ])
        .with_labels([("team.name", "a,b"), ("x", id)])
    })
    .collect()
}

#[track_caller]
fn lists(format: Option<&str>, quiet: bool, expected: &str) {
    assert_eq!(
        LISTING.print(format, quiet, &rows()).as_deref(),
        Ok(expected),
        "{format:?}"
    );
}

#[test]
fn lists_are_tables_templates_or_json() {
    let table = "CONTAINER ID   STATUS                   NAMES\n\
                 4f5e           Up 3 minutes (healthy)   agent\n\
                 77aa           Created                  db\n";
    lists(None, false, table);
    lists(Some("table"), false, table);
    lists(None, true, "4f5e\n77aa\n");
    lists(Some("{{.Names}}"), false, "agent\ndb\n");
    lists(Some("{{.Names}}"), true, "agent\ndb\n");
    lists(
        Some(r"table {{.Names}}\t{{upper .ID}}"),
        false,
        "NAMES     CONTAINER ID\nagent     4F5E\ndb        77AA\n",
    );
    lists(
        Some(r#"table {{.Label "team.name"}}\t{{.Labels}}"#),
        false,
        "name      LABELS\na,b       team.name=a,b,x=4f5e\na,b       team.name=a,b,x=77aa\n",
    );
    lists(
        Some(r#"{{.Label "x"}}|{{.Label "none"}}"#),
        false,
        "4f5e|\n77aa|\n",
    );
    lists(
        Some("{{json .}}"),
        false,
        "{\"ID\":\"4f5e\",\"Labels\":\"team.name=a,b,x=4f5e\",\"Names\":\"agent\",\"Status\":\"Up 3 minutes (healthy)\"}\n\
         {\"ID\":\"77aa\",\"Labels\":\"team.name=a,b,x=77aa\",\"Names\":\"db\",\"Status\":\"Created\"}\n",
    );
}

#[test]
fn an_empty_list_still_refuses_a_field_that_no_row_has() {
    assert_eq!(
        LISTING.print(Some("{{.Names}}"), false, &[]).as_deref(),
        Ok("")
    );
    assert_eq!(
        LISTING
            .print(Some("{{if .Names}}{{.Label \"x\"}}{{end}}"), false, &[])
            .as_deref(),
        Ok("")
    );
    assert!(LISTING.print(Some("{{.Colour}}"), false, &[]).is_err());
    assert!(
        LISTING
            .print(Some("table {{.Colour}}"), false, &[])
            .is_err()
    );
    assert!(
        LISTING
            .print(Some("{{if .Names}}{{.Colour}}{{end}}"), false, &[])
            .is_err()
    );
}

#[test]
fn inspect_answers_an_array_or_a_line_each() {
    let values = [json!({"Id": "a"}), json!({"Id": "b"})];
    assert_eq!(inspected(Some("{{.Id}}"), &values).as_deref(), Ok("a\nb\n"));
    let all: Value = serde_json::from_str(&inspected(None, &values).unwrap()).unwrap();
    assert_eq!(all, json!([{"Id": "a"}, {"Id": "b"}]));
}
