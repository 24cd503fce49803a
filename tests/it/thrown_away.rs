//! No result is thrown away in silence: library code says what becomes of it with
//! `superduper_core::unreturned`.
//!
//! This reads source text, so it knows no types. It finds `let _ = …`, `_ = …`, `drop(…)` of a
//! call, and statements that end in `.ok()`, `.err()`, `.is_ok()`, `.is_err()` or
//! `.unwrap_or_default()` without using what that gives. It does not find a `drop(name)` of a
//! variable that is a result, nor an error that a `match`, an `if let Ok(…)` or a closure leaves
//! out, nor what ends a statement with a block in it. It skips what follows a `#[cfg(test)]`
//! module, and files that end in `_tests.rs`.

use std::path::{Path, PathBuf};

/// Where library code is.
const FOLDERS: [&str; 6] = [
    "superduper-core/src",
    "stores/memory/src",
    "stores/object/src",
    "stores/sqlite/src",
    "components/train/src",
    "components/candle/src",
];

/// Endings of statements that throw the error of a result away.
const ENDINGS: [&str; 5] = [".ok()", ".err()", ".is_ok()", ".is_err()", ".unwrap_or_default()"];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !path.to_string_lossy().ends_with("_tests.rs")
        {
            found.push(path);
        }
    }
}

/// The text with comments and the contents of literals blanked, so that places and lines stay.
fn code(text: &str) -> Vec<char> {
    let given: Vec<char> = text.chars().collect();
    let mut code = given.clone();
    let mut at = 0;
    while at < given.len() {
        let end = literal_or_comment(&given, at);
        for place in code.iter_mut().take(end).skip(at) {
            if *place != '\n' {
                *place = ' ';
            }
        }
        at = end.max(at + 1);
    }
    code
}

/// The end of the comment or literal that begins here; the place itself where none does.
fn literal_or_comment(text: &[char], at: usize) -> usize {
    let next = |offset: usize| text.get(at + offset).copied();
    let until = |from: usize, fits: &dyn Fn(usize) -> bool| {
        (from..text.len()).find(|place| fits(*place)).unwrap_or(text.len())
    };
    match (text[at], next(1)) {
        ('/', Some('/')) => until(at, &|place| text[place] == '\n'),
        ('/', Some('*')) => {
            until(at + 2, &|place| text[place] == '/' && text[place - 1] == '*') + 1
        }
        ('"', _) => {
            let mut end = at + 1;
            while end < text.len() && text[end] != '"' {
                end += if text[end] == '\\' { 2 } else { 1 };
            }
            (end + 1).min(text.len())
        }
        ('r', Some('"' | '#')) if at == 0 || !is_word(text[at - 1]) => {
            let hashes = text[at + 1..].iter().take_while(|character| **character == '#').count();
            if next(1 + hashes) != Some('"') {
                return at;
            }
            let closes = |place: usize| {
                text[place] == '"'
                    && text[place + 1..]
                        .iter()
                        .take(hashes)
                        .filter(|character| **character == '#')
                        .count()
                        == hashes
            };
            until(at + 2 + hashes, &closes) + 1 + hashes
        }
        // Not a lifetime.
        ('\'', Some('\\')) => until(at + 3, &|place| text[place] == '\'') + 1,
        ('\'', Some(_)) if next(2) == Some('\'') => at + 3,
        _ => at,
    }
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Lines, counted from one, where a result is thrown away.
fn thrown_away(text: &str) -> Vec<(usize, String)> {
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let text = text.split("#[cfg(test)]\n#[path").next().unwrap_or_default();
    let code = code(text);
    let mut found = Vec::new();
    let mut begin = 0;
    for (at, character) in code.iter().enumerate() {
        if matches!(character, ';' | '{' | '}') {
            let statement: String = code[begin..at].iter().collect();
            if let Some(why) = offends(statement.trim(), *character == ';') {
                let skipped = statement.len() - statement.trim_start().len();
                let before = code[..begin].iter().chain(code[begin..].iter().take(skipped));
                found.push((
                    1 + before.filter(|character| **character == '\n').count(),
                    why.to_owned(),
                ));
            }
            begin = at + 1;
        }
    }
    found
}

/// Why a statement, or the part of one up to a brace, is refused.
fn offends(statement: &str, is_whole: bool) -> Option<&'static str> {
    // On one line, wherever the lines are broken.
    let statement = &statement.split_whitespace().collect::<Vec<_>>().join(" ");
    if statement.ends_with('?') {
        return None;
    }
    if statement.starts_with("let _ =")
        || statement.starts_with("let _:")
        || statement.starts_with("_ = ")
    {
        return Some("`let _ =`");
    }
    for (at, _) in statement.match_indices("drop(") {
        let is_call = !statement[..at].ends_with(is_word) && !statement[..at].ends_with("fn ");
        let argument = argument(&statement[at + "drop(".len()..]);
        if is_call
            && (argument.contains('(') || argument.contains('?') || argument.contains(".await"))
        {
            return Some("`drop(…)` of a call");
        }
    }
    // What follows a block of the same statement: its beginning was not seen.
    let is_rest = statement.starts_with(')');
    let uses = is_rest
        || statement.contains(" = ")
        || statement.contains("+= ")
        || statement.starts_with("return")
        || statement.contains("|= ");
    let ends = ENDINGS.iter().any(|ending| statement.ends_with(ending));
    if is_whole && ends && !uses { Some("an error that nobody looks at") } else { None }
}

/// Up to the bracket that closes it.
fn argument(text: &str) -> &str {
    let mut depth = 1;
    let end = text.char_indices().find(|(_, character)| {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    end.map_or(text, |(at, _)| &text[..at])
}

#[test]
fn no_result_is_thrown_away_in_silence() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    FOLDERS.iter().for_each(|folder| files(&root.join(folder), &mut paths));
    assert!(paths.len() > 200, "{}", paths.len());
    let mut refused = String::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("a source file");
        for (line, why) in thrown_away(&text) {
            let path = path.strip_prefix(&root).unwrap_or(&path).display();
            refused.push_str(&format!("{path}:{line}: {why}\n"));
        }
    }
    assert!(
        refused.is_empty(),
        "say what becomes of these with `.or_warn(…)` or `.ignored(…)` of `superduper_core::unreturned`:\n{refused}"
    );
}

/// The text that names what failed, in each call that records an error.
fn warnings(text: &str) -> Vec<&str> {
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let calls = [".or_warn(", ".warn(&error, ", ".warn(error, ", "detached("];
    let places = calls.iter().flat_map(|call| text.match_indices(call)).filter(|(at, _)| {
        let line = text[..*at].rsplit('\n').next().unwrap_or_default();
        !line.trim_start().starts_with("//") && !line.contains("fn ")
    });
    // Texts that are handed on are found where they come from.
    places.filter_map(|(at, call)| argument(&text[at + call.len()..]).split('"').nth(1)).collect()
}

#[test]
fn every_warning_is_in_the_list_of_events() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let list = std::fs::read_to_string(root.join("docs/events.md")).expect("the list");
    let mut paths = Vec::new();
    FOLDERS.iter().for_each(|folder| files(&root.join(folder), &mut paths));
    let mut found = 0;
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("a source file");
        for warning in warnings(&text) {
            found += 1;
            assert!(
                list.contains(&format!("`{warning}`")),
                "{}: `{warning}` is not in docs/events.md",
                path.display()
            );
        }
    }
    assert!(found > 30, "{found}");
}

#[test]
fn what_is_thrown_away_is_found_with_its_line() {
    let lines =
        |text: &str| thrown_away(text).into_iter().map(|(line, _)| line).collect::<Vec<_>>();
    for refused in [
        "let _ = file.sync_all();",
        "let _: Result<()> = call();",
        "_ = sender.send(1);",
        "drop(commit(batch).await);",
        "drop(returned.await);",
        "if cond { drop(messages.send(message)); }",
        "match call() { Err(error) => drop(failed.get_or_insert(error)), Ok(()) => {} }",
        "fs::remove_file(path).ok();",
        "thread\n    .join()\n    .is_err();",
    ] {
        let text = format!("fn it() {{\n    {refused}\n}}\n");
        assert_eq!(lines(&text), [2], "{refused}");
    }
    for fine in [
        "let _guard = lock.lock();",
        "let found = fs::metadata(path).ok();",
        "let _: Value = from_str(text)?;",
        "let found = with(|it| { it.read() })\n.unwrap_or_default();",
        "return text.parse().ok();",
        "failed |= call().is_err();",
        "call().or_warn(Site::RUN, \"doing it\");",
        "call().ignored(\"let _ = nobody(); waits\");",
        "// let _ = call();",
        "/* drop(call()); */",
        "let text = r#\"drop(call()); \"quoted\" \"#;",
        "let quote = '\"'; /* ' */ let other = '\\'';",
        "drop(guard);",
        "let done = removal.await.map(drop);",
        "or_drop(call(), checked);",
        "impl Drop for X { fn drop(&mut self) { self.stop(); } }",
        "text.parse().ok()",
    ] {
        let text = format!("fn it() {{\n    {fine}\n}}\n");
        assert_eq!(lines(&text), [] as [usize; 0], "{fine}");
    }
    assert_eq!(
        lines("fn it() {}\n\n#[cfg(test)]\nmod tests {\n    fn it() { let _ = call(); }\n}\n"),
        [] as [usize; 0]
    );
}
