use super::*;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples/balancer.toml");

#[test]
fn a_correct_file_is_counted() {
    let of = Correct {
        schema: SCHEMA,
        file: "/etc/pgha/pgha.toml".into(),
        services: 1,
        nodes: 2,
        remarks: vec!["a node is no standby".to_owned()],
    };
    assert_eq!(
        text(&of),
        "remark: a node is no standby\n/etc/pgha/pgha.toml: correct; 1 service, 2 nodes"
    );
}

#[test]
fn a_file_is_read_as_a_controller_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pgha.toml");
    let example = std::fs::read_to_string(EXAMPLE).unwrap();
    // Files of the example's host are not here.
    let is_here = |line: &&str| !line.trim_start().starts_with("passfile");
    let example: Vec<_> = example.lines().filter(is_here).collect();
    std::fs::write(&path, example.join("\n")).unwrap();
    let of = correct(&path).unwrap();
    assert_eq!((&of.file, of.schema), (&path, SCHEMA));
    assert!(of.services > 0, "{of:?}");

    std::fs::write(&path, "cluster = 7\nclutser = \"main\"").unwrap();
    let error = correct(&path).unwrap_err().to_string();
    assert!(error.contains("cluster") && error.contains("clutser"), "{error}");
}
