use super::{StandbyNames, parse};

#[test]
fn every_form_of_the_list_is_read() {
    for (text, need, names) in [
        ("db2", 1, &["db2"][..]),
        ("db2, db3", 1, &["db2", "db3"]),
        ("2 (db2,db3)", 2, &["db2", "db3"]),
        ("FIRST 2 (db2, \"db,3\")", 2, &["db2", "db,3"]),
        ("any 1 ( db2 , \"a \"\"b\"\" c\" )", 1, &["db2", "a \"b\" c"]),
        ("*", 1, &["*"]),
        ("ANY 3(*)", 3, &["*"]),
    ] {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(parse(text), Some(StandbyNames { need, names }), "{text}");
    }
    assert_eq!(parse(""), None);
    assert_eq!(parse("  "), None);
}

#[test]
fn who_is_absent_and_who_can_confirm() {
    let names = parse("ANY 2 (db2, db3, db4)").unwrap();
    assert_eq!(names.absent(&["DB3", "other"]), ["db2", "db4"]);
    assert_eq!(names.can_confirm(&["DB3", "other"]), 1);
    let any = parse("ANY 2 (*)").unwrap();
    assert_eq!(any.absent(&["x"]), Vec::<&str>::new());
    assert_eq!(any.can_confirm(&["x", "y"]), 2);
    assert_eq!(any.absent(&[]), ["*"]);
}
