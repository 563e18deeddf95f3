//! Templates as Loki's users write them.

use super::{Template, TemplateData};

fn render(template: &str) -> Result<String, String> {
    let labels: &[(&str, &[u8])] = &[
        ("method", b"get"),
        ("status", b"500"),
        ("path", b"/a/b?c=d e"),
        ("took", b"1.5s"),
        ("json", br#"{"a":{"b":[1,"x"]},"n":null}"#),
    ];
    let data = TemplateData {
        labels,
        line: b"the line",
        time_ns: 1_700_000_000_000_000_000,
    };
    Template::new("t", template)?.render(&data)
}

#[test]
fn fields_pipelines_and_functions() {
    for (template, text) in [
        ("{{.method}}-ok {{ .nope }}|", "get-ok |"),
        ("{{ .method | upper | printf \"%-5s|\" }}", "GET  |"),
        ("{{- \" a \" -}}  b", " a b"),
        ("{{/* note */}}x", "x"),
        ("{{if eq .status \"500\"}}bad{{else}}good{{end}}", "bad"),
        (
            "{{if eq .status \"1\"}}a{{else if hasPrefix \"5\" .status}}b{{else}}c{{end}}",
            "b",
        ),
        (
            "{{with .method}}{{.}}{{end}}{{with .nope}}x{{else}}y{{end}}",
            "gety",
        ),
        (
            "{{range $i, $x := splitList \"/\" .path}}{{$i}}={{$x}};{{end}}",
            "0=;1=a;2=b?c=d e;",
        ),
        (
            "{{range list 1 2 3}}{{if eq . 2}}{{continue}}{{end}}{{.}}{{end}}",
            "13",
        ),
        ("{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}}", "2"),
        ("{{(fromJson .json).a.b}}", "[1 x]"),
        ("{{index (fromJson .json).a.b 1}}", "x"),
        (
            "{{__line__}} {{__timestamp__ | unixEpoch}}",
            "the line 1700000000",
        ),
        (
            "{{date \"2006-01-02\" (unixToTime \"1700000000\")}}",
            "2023-11-14",
        ),
        ("{{duration .took}} {{bytes \"2KB\"}}", "1.5 2000"),
        (
            "{{add 1 2 .status}} {{div 7 2}} {{mulf 1.5 2}} {{round 3.14159 2}}",
            "503 3 3 3.14",
        ),
        (
            "{{trunc 2 .method}}{{trunc -2 .method}}{{substr 0 1 .method}}",
            "geetg",
        ),
        (
            "{{alignLeft 5 .method}}|{{alignRight 5 .method}}|{{alignRight 2 .method}}",
            "get  |  get|et",
        ),
        (
            "{{.path | urlencode}} {{\"a%20b+c\" | urldecode}}",
            "%2Fa%2Fb%3Fc%3Dd+e a b c",
        ),
        ("{{b64enc \"hi?\"}} {{b64dec \"aGk/\"}}", "aGk/ hi?"),
        (
            "{{regexReplaceAll \"(g)(e)\" .method \"${2}$1\"}} {{count \"e|t\" .method}}",
            "egt 2",
        ),
        (
            "{{.nope | default \"-\"}} {{ToUpper .method}} {{Replace .path \"/\" \".\" 1}}",
            "- GET .a/b?c=d e",
        ),
        (
            "{{and 1 0}} {{or \"\" \"x\"}} {{not true}} {{len .method}}",
            "0 x false 3",
        ),
        (
            "{{printf \"%05d|%.2f|%q|%v|%x\" 42 1.5 \"a\" true 255}}",
            "00042|1.50|\"a\"|true|ff",
        ),
        ("{{nindent 2 \"a\\nb\"}}", "\n  a\n  b"),
        ("{{`raw`}}{{'a'}}", "raw97"),
    ] {
        assert_eq!(render(template).as_deref(), Ok(text), "{template}");
    }
}

#[test]
fn faults_are_worded_as_in_go() {
    for (template, error) in [
        ("{{", "unclosed action"),
        ("{{nope}}", "function \"nope\" not defined"),
        ("{{if .a}}", "unexpected EOF"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{$x}}", "undefined variable \"$x\""),
        ("{{break}}", "outside {{range}}"),
        ("{{(.a}}", "unclosed left paren"),
        ("a\n{{ | }}", "t:2"),
        ("{{div 1 0}}", "divide by zero"),
        ("{{repeat 99999999 \"x\"}}", "bytes"),
        ("{{range 99999}}{{range 99999}}x{{end}}{{end}}", "steps"),
    ] {
        let message = render(template).unwrap_err();
        assert!(message.contains(error), "{template}: {message}");
    }
    assert!(Template::new("t", &"{{if 1}}".repeat(100_000)).is_err());
    assert!(Template::new("t", &format!("{{{{{}1", "(".repeat(100_000))).is_err());
}
