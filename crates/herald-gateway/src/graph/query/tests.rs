//! Tables of queries.

use super::*;

fn query(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

fn field(refusal: &Refusal) -> String {
    let text = format!("{refusal:?}");
    let (_, rest) = text.split_once("field: \"").unwrap();
    rest.split_once('"').unwrap().0.to_owned()
}

#[test]
fn a_filter_is_read() {
    let none = EntryFilter::default();
    let read = |read| EntryFilter { read: Some(read), ..EntryFilter::default() };
    let acted = |action| EntryFilter { action: Some(action), ..EntryFilter::default() };
    let group = |group: &str| EntryFilter { group: Some(group.to_owned()), ..EntryFilter::default() };
    for (text, expected) in [
        ("readState eq true", read(true)),
        ("readState eq false", read(false)),
        ("readState eq 'Read'", read(true)),
        ("  readState   eq 'unread' ", read(false)),
        ("userActionState eq 'NoInteraction'", acted(UserAction::NoInteraction)),
        ("userActionState eq 'activated'", acted(UserAction::Activated)),
        ("userActionState eq 'Dismissed'", acted(UserAction::Dismissed)),
        ("userActionState eq 'Snoozed'", acted(UserAction::Snoozed)),
        ("status eq 'Active'", none.clone()),
        ("status eq 'Deleted'", EntryFilter { deleted: true, ..none }),
        ("groupName eq 'orders'", group("orders")),
        ("groupName eq 'o''neil and sons'", group("o'neil and sons")),
        ("groupName eq ''''", group("'")),
        ("groupName eq ''", group("")),
        ("groupName eq 'grün 🙂'", group("grün 🙂")),
        (
            "status eq 'Deleted' and readState eq true and groupName eq 'g' and userActionState eq 'Snoozed'",
            EntryFilter {
                deleted: true,
                read: Some(true),
                action: Some(UserAction::Snoozed),
                group: Some("g".to_owned()),
            },
        ),
    ] {
        assert_eq!(count(Some(&query(&[("$filter", text)]))).unwrap(), expected, "{text}");
    }
}

#[test]
fn what_is_no_filter_is_refused_and_not_quoted() {
    for text in [
        "",
        "s3cret",
        "readState",
        "readState eq",
        "readState eq s3cret",
        "readState eq 1",
        "readState eq 's3cret'",
        "readState ne true",
        "readState EQ true",
        "readState eq true and",
        "readState eq true or status eq 'Active'",
        "readState eq true readState eq true",
        "readState eq true and readState eq false",
        "(readState eq true)",
        "true eq readState",
        "'readState' eq true",
        "userActionState eq Snoozed",
        "userActionState eq 'None'",
        "status eq 'Any'",
        "status eq Active",
        "groupName eq null",
        "groupName eq 's3cret",
        "groupName eq 's3cret''",
        "groupName eq 'a'and readState eq true",
        "contains(groupName, 's3cret')",
        "priority eq 'High'",
        "and",
    ] {
        let refusal = count(Some(&query(&[("$filter", text)]))).unwrap_err();
        assert_eq!(field(&refusal), "$filter", "{text}");
        assert!(!format!("{refusal:?}").contains("s3cret"), "{refusal:?}");
    }
}

#[test]
fn options_are_read_or_refused_by_their_name() {
    let list = |pairs: &[(&str, &str)]| ListQuery::of(Some(&query(pairs)));
    let id = "0192f0a0-0000-7000-8000-000000000001";
    assert_eq!(ListQuery::of(None).unwrap().top, 20);
    for (given, top) in [("1", 1), ("100", 100), ("101", 100), ("99999999999999999999999", 100), ("007", 7)] {
        assert_eq!(list(&[("$top", given)]).unwrap().top, top, "{given}");
    }
    let all = list(&[("$top", "5"), ("$count", "true"), ("$skiptoken", id)]).unwrap();
    assert_eq!((all.count, all.after.map(|id| id.to_string())), (true, Some(id.to_owned())));
    for (pairs, name) in [
        (&[("$top", "0")][..], "$top"),
        (&[("$top", "-1")], "$top"),
        (&[("$top", "+5")], "$top"),
        (&[("$top", "1.5")], "$top"),
        (&[("$top", "")], "$top"),
        (&[("$top", "1"), ("$top", "2")], "$top"),
        (&[("$count", "yes")], "$count"),
        (&[("$skiptoken", "next")], "$skiptoken"),
        (&[("$orderby", "id")], "$orderby"),
        (&[("$select", "id")], "$select"),
        (&[("top", "1")], "top"),
        (&[("", "1")], "query"),
        (&[("a b", "1")], "query"),
        (&[("$deltatoken", "latest")], "$deltatoken"),
    ] {
        assert_eq!(field(&list(pairs).unwrap_err()), name, "{pairs:?}");
    }
    assert_eq!(field(&count(Some("$top=1")).unwrap_err()), "$top");
}

#[test]
fn links_go_on_with_the_same_options() {
    let last = NotificationId(Uuid::from_u128(7));
    let filter = "groupName eq 'a&b ''c'''";
    let list = ListQuery::of(Some(&query(&[("$filter", filter), ("$skiptoken", &last.to_string()), ("$top", "5")])));
    let next = ListQuery::of(Some(&list.unwrap().next(NotificationId(Uuid::from_u128(8))))).unwrap();
    assert_eq!((next.top, next.after), (5, Some(NotificationId(Uuid::from_u128(8)))));
    assert_eq!(next.filter.group.as_deref(), Some("a&b 'c'"));
}

#[test]
fn a_deltas_tokens_are_read_back_and_any_others_begin_anew() {
    let epoch = Uuid::from_u128(0xABCD);
    let (old, mark) = (Mark { epoch, at: 6 }, Mark { epoch, at: i64::MAX - 1 });
    let last = NotificationId(Uuid::from_u128(7));
    let first = DeltaQuery::of(Some("$top=3")).unwrap();
    assert_eq!((first.from, first.latest), (DeltaFrom::default(), false));
    let page = DeltaQuery::of(Some(&first.next(mark, last))).unwrap();
    assert_eq!((page.top, page.from), (3, DeltaFrom { since: None, until: Some(mark), after: Some(last) }));
    let later = DeltaQuery::of(Some(&page.later(old))).unwrap();
    assert_eq!(later.from, DeltaFrom { since: Some(old), ..DeltaFrom::default() });
    let page = DeltaQuery::of(Some(&later.next(mark, last))).unwrap();
    assert_eq!(page.from, DeltaFrom { since: Some(old), until: Some(mark), after: Some(last) });
    assert!(DeltaQuery::of(Some("$deltatoken=latest")).unwrap().latest);
    for query in ["$deltatoken=", "$deltatoken=x", "$deltatoken=AAAA", "$skiptoken=AAAA", "$skiptoken=%00"] {
        let refusal = format!("{:?}", DeltaQuery::of(Some(query)).unwrap_err());
        assert!(refusal.contains("410") && refusal.contains("syncStateNotFound"), "{query}: {refusal}");
    }
    for (query, name) in [
        ("$deltatoken=latest&$skiptoken=x", "$deltatoken"),
        ("$filter=status eq 'Active'", "$filter"),
        ("$count=true", "$count"),
    ] {
        assert_eq!(field(&DeltaQuery::of(Some(query)).unwrap_err()), name);
    }
}
