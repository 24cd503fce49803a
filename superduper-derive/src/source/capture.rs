//! Finding the text of an item in its file.

use super::scan::{Kind, Piece, pieces};
use proc_macro2::{LineColumn, Span};
use std::{
    collections::HashSet,
    ops::Range,
    path::{Component, Path, PathBuf},
};

/// An item as its file has it.
#[derive(Debug, PartialEq)]
pub(super) struct Item {
    pub(super) path: String,
    pub(super) line: usize,
    pub(super) text: String,
    pub(super) uses: Vec<String>,
    pub(super) helpers: Vec<String>,
}

/// Find an item. `anchor` is a token that the item cannot be without, such as its name, and `last`
/// its last one; an error says why the item was not found.
///
/// `owner` is the name of the type of an `impl` block, whose methods in other blocks are helpers too.
pub(super) fn capture(
    anchor: (&str, Span),
    last: Span,
    owner: Option<&str>,
) -> Result<Item, &'static str> {
    const NO_FILE: &str = "the compiler does not say where it stands";
    let (name, span) = anchor;
    let file = span.local_file().ok_or(NO_FILE)?;
    if last.local_file().as_ref() != Some(&file) {
        return Err(NO_FILE);
    }
    let text = std::fs::read_to_string(&file).map_err(|_| "its file cannot be read")?;
    let found = find(&text, (name, span.start()), last.end(), owner)?;
    Ok(Item { path: relative(&file), ..found })
}

/// Find an item in the text of its file. The path stays empty.
fn find(
    text: &str,
    (name, anchor): (&str, LineColumn),
    end: LineColumn,
    owner: Option<&str>,
) -> Result<Item, &'static str> {
    const MACRO: &str = "a macro wrote it";
    let file = File { text, pieces: pieces(text) };
    let at = offset(text, anchor).ok_or(MACRO)?;
    let end = offset(text, end).ok_or(MACRO)?;
    let index = file.pieces.binary_search_by_key(&at, |piece| piece.start).map_err(|_| MACRO)?;
    let ends_here = |piece: &Piece| {
        let is_end = matches!(piece.kind, Kind::Close('}') | Kind::Mark(';'));
        piece.end == end && piece.start >= at && is_end
    };
    if file.text_of(index) != name || !file.pieces.iter().any(ends_here) {
        return Err(MACRO);
    }
    let around = file.around(index);
    if around.iter().any(|open| file.is_of_macro(*open)) {
        return Err("it stands inside of a macro");
    }
    let first = file.start_of(index);
    let start = file.pieces[file.with_comments(first)].start;
    let line = text[..start].matches('\n').count() + 1;
    let (uses, mut helpers) = (file.uses(&around), file.helpers(&around, start..end));
    if let Some(owner) = owner {
        helpers.extend(file.methods(&around, start..end, owner));
    }
    Ok(Item { path: String::new(), line, text: text[start..end].to_owned(), uses, helpers })
}

/// The place of a line and column, both of which count as the compiler does: characters, without a
/// byte order mark.
fn offset(text: &str, place: LineColumn) -> Option<usize> {
    let mut start = 0;
    for _ in 1..place.line {
        start += text[start..].find('\n')? + 1;
    }
    if start == 0 && text.starts_with('\u{feff}') {
        start = '\u{feff}'.len_utf8();
    }
    let line = text[start..].split('\n').next()?;
    let column =
        line.char_indices().map(|(index, _)| index).chain([line.len()]).nth(place.column)?;
    Some(start + column)
}

/// A file in pieces.
struct File<'a> {
    text: &'a str,
    pieces: Vec<Piece>,
}

impl File<'_> {
    fn text_of(&self, index: usize) -> &str {
        &self.text[self.pieces[index].start..self.pieces[index].end]
    }

    fn is_comment(&self, index: usize) -> bool {
        matches!(self.pieces[index].kind, Kind::Comment | Kind::OuterDoc | Kind::InnerDoc)
    }

    fn is_mark(&self, index: usize, mark: char) -> bool {
        self.pieces[index].kind == Kind::Mark(mark)
    }

    /// The pieces of code before one, the nearest first.
    fn code_before(&self, index: usize) -> impl Iterator<Item = usize> + '_ {
        (0..index).rev().filter(|index| !self.is_comment(*index))
    }

    /// The brackets that are open at a piece, the outermost first.
    fn around(&self, index: usize) -> Vec<usize> {
        let mut open = Vec::new();
        for (place, piece) in self.pieces[..index].iter().enumerate() {
            match piece.kind {
                Kind::Open(_) => open.push(place),
                Kind::Close(_) => {
                    open.pop();
                }
                _ => {}
            }
        }
        open
    }

    /// Whether a bracket holds what a macro takes: `name! { … }`, `macro_rules! name { … }`.
    fn is_of_macro(&self, open: usize) -> bool {
        let mut before = self.code_before(open);
        match (before.next(), before.next(), before.next()) {
            (Some(mark), Some(_), _) if self.is_mark(mark, '!') => true,
            (Some(_), Some(mark), Some(word)) => {
                self.is_mark(mark, '!') && self.text_of(word) == "macro_rules"
            }
            _ => false,
        }
    }

    /// Whether a bracket holds the items of a module.
    fn is_of_module(&self, open: usize) -> bool {
        self.code_before(open).nth(1).is_some_and(|word| self.text_of(word) == "mod")
    }

    /// The first piece of the item in which a piece stands before all brackets of it: of its
    /// documentation, attributes, visibility.
    fn start_of(&self, index: usize) -> usize {
        let mut start = index;
        while let Some(before) = start.checked_sub(1) {
            match self.pieces[before].kind {
                Kind::Close(')') | Kind::Close(']') => {
                    let Some(open) = self.opening(before) else { break };
                    let mut marks = self.code_before(open);
                    let is_inner = marks.next().is_some_and(|mark| self.is_mark(mark, '!'))
                        && marks.next().is_some_and(|mark| self.is_mark(mark, '#'));
                    if is_inner {
                        break;
                    }
                    start = open;
                }
                Kind::Close(_) | Kind::Open(_) | Kind::Mark(';') | Kind::InnerDoc => break,
                _ => start = before,
            }
        }
        // Comments that are no documentation are looked at apart.
        (start..index).find(|place| self.pieces[*place].kind != Kind::Comment).unwrap_or(index)
    }

    /// The bracket that a closing one closes.
    fn opening(&self, close: usize) -> Option<usize> {
        let mut depth = 0;
        (0..=close).rev().find(|place| {
            match self.pieces[*place].kind {
                Kind::Close(_) => depth += 1,
                Kind::Open(_) => depth -= 1,
                _ => {}
            }
            depth == 0
        })
    }

    /// The first of the comments that stand directly above an item, without an empty line between,
    /// and on lines of their own.
    fn with_comments(&self, first: usize) -> usize {
        let lines = |from: usize, to: usize| self.text[from..to].matches('\n').count();
        let mut start = first;
        while let Some(before) = start.checked_sub(1) {
            let comment = self.pieces[before];
            let above = before.checked_sub(1).map_or(0, |above| self.pieces[above].end);
            let own_line = before == 0 || lines(above, comment.start) > 0;
            let directly = lines(comment.end, self.pieces[start].start) <= 1;
            if comment.kind != Kind::Comment || !own_line || !directly {
                break;
            }
            start = before;
        }
        start
    }

    /// The words that stand among the items of the file, and of the modules among these open
    /// brackets.
    fn words_among_items(&self, around: &[usize]) -> Vec<usize> {
        let mut found = Vec::new();
        let mut open: Vec<usize> = Vec::new();
        for (place, piece) in self.pieces.iter().enumerate() {
            match piece.kind {
                Kind::Open(_) => open.push(place),
                Kind::Close(_) => {
                    open.pop();
                }
                Kind::Word => {
                    let seen = around.starts_with(&open)
                        && open.iter().all(|open| self.is_of_module(*open));
                    found.extend(seen.then_some(place));
                }
                _ => {}
            }
        }
        found
    }

    /// The `use` declarations of the file, and of the modules among these open brackets.
    fn uses(&self, around: &[usize]) -> Vec<String> {
        let words = self.words_among_items(around).into_iter();
        words
            .filter(|word| self.text_of(*word) == "use")
            .filter_map(|word| self.use_at(word))
            .collect()
    }

    /// The names of items of the file, and of the modules among these open brackets, that the text
    /// in this range uses. Items in the range itself are none of them.
    fn helpers(&self, around: &[usize], range: Range<usize>) -> Vec<String> {
        let is_inside = |place: &usize| range.contains(&self.pieces[*place].start);
        let used: HashSet<&str> = (0..self.pieces.len())
            .filter(|place| is_inside(place) && self.may_name_an_item(*place))
            .map(|place| self.text_of(place))
            .collect();
        let words = self.words_among_items(around).into_iter();
        let names = words.filter(|word| !is_inside(word)).filter_map(|word| self.name_at(word));
        let mut found: Vec<String> = Vec::new();
        for name in names.filter(|name| used.contains(name)) {
            if !found.iter().any(|known| known == name) {
                found.push(name.to_owned());
            }
        }
        found
    }

    /// The methods of a type in other `impl` blocks of the file that the text in this range calls,
    /// as `Type::method`.
    fn methods(&self, around: &[usize], range: Range<usize>, owner: &str) -> Vec<String> {
        let is_inside = |place: &usize| range.contains(&self.pieces[*place].start);
        let is_called = |name: &str| {
            (0..self.pieces.len()).any(|place| {
                let before = || self.code_before(place).next();
                is_inside(&place)
                    && self.text_of(place) == name
                    && before().is_some_and(|at| self.is_mark(at, '.') || self.is_mark(at, ':'))
            })
        };
        let blocks = self.words_among_items(around).into_iter();
        let mut found = Vec::new();
        for block in blocks.filter(|word| !is_inside(word) && self.text_of(*word) == "impl") {
            let open = (block..self.pieces.len())
                .find(|place| self.pieces[*place].kind == Kind::Open('{'));
            let Some(open) = open else { continue };
            if !(block..open).any(|place| self.text_of(place) == owner) {
                continue;
            }
            let mut depth = 0;
            for place in open..self.pieces.len() {
                match self.pieces[place].kind {
                    Kind::Open(_) => depth += 1,
                    Kind::Close(_) => depth -= 1,
                    Kind::Word if depth == 1 && self.text_of(place) == "fn" => {
                        let name = self.name_at(place).filter(|name| is_called(name));
                        found.extend(name.map(|name| format!("{owner}::{name}")));
                    }
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
            }
        }
        found
    }

    /// The name of the item that a keyword begins.
    fn name_at(&self, keyword: usize) -> Option<&str> {
        const ITEMS: [&str; 9] =
            ["const", "enum", "fn", "mod", "static", "struct", "trait", "type", "union"];
        let next = |place: usize| (place + 1..self.pieces.len()).find(|at| !self.is_comment(*at));
        let mut name = next(keyword)?;
        if self.text_of(keyword) == "macro_rules" {
            name = next(name)?;
        } else if !ITEMS.contains(&self.text_of(keyword)) {
            return None;
        }
        let text = self.text_of(name);
        let is_name = self.pieces[name].kind == Kind::Word && text != "_";
        // `const fn`, `static mut`: the next word begins the item, or is the name.
        (is_name && !ITEMS.contains(&text) && !["mut", "unsafe", "async", "extern"].contains(&text))
            .then_some(text)
    }

    /// Whether a word may stand for an item: it is no field, no method and no name that is declared
    /// here.
    fn may_name_an_item(&self, place: usize) -> bool {
        if self.pieces[place].kind != Kind::Word {
            return false;
        }
        let before = self.code_before(place).next();
        let is_declared = before.is_some_and(|before| {
            self.is_mark(before, '.') || ["fn", "let", "mut"].contains(&self.text_of(before))
        });
        let mut after = (place + 1..self.pieces.len()).filter(|at| !self.is_comment(*at));
        let colons =
            [after.next(), after.next()].map(|at| at.is_some_and(|at| self.is_mark(at, ':')));
        !is_declared && colons != [true, false]
    }

    /// A declaration, with its attributes and visibility; nothing for the `use<…>` of a type.
    fn use_at(&self, place: usize) -> Option<String> {
        if self.pieces.get(place + 1).is_none_or(|next| next.kind == Kind::Mark('<')) {
            return None;
        }
        let first = self.start_of(place);
        let first = (first..=place).find(|index| !self.is_comment(*index))?;
        let end = self.pieces[place..].iter().find(|piece| piece.kind == Kind::Mark(';'))?.end;
        Some(self.text[self.pieces[first].start..end].to_owned())
    }
}

/// The path of a file as a program of any machine may show it.
fn relative(file: &Path) -> String {
    let home = |variable: &str| std::env::var_os(variable).map(PathBuf::from);
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    if let Some(rest) = home("OUT_DIR").and_then(|out| absolute.strip_prefix(out).ok().map(slashes))
    {
        return format!("OUT_DIR/{rest}");
    }
    match home("CARGO_MANIFEST_DIR") {
        Some(home) => beside(&home, &absolute),
        None if file.is_relative() => slashes(file),
        None => file.file_name().map(|name| slashes(Path::new(name))).unwrap_or_default(),
    }
}

/// The way from a folder to a file; `..` leads out of the folder.
fn beside(folder: &Path, file: &Path) -> String {
    let shared = folder.components().zip(file.components()).take_while(|(a, b)| a == b).count();
    let up = folder.components().skip(shared).map(|_| Component::ParentDir);
    slashes(&up.chain(file.components().skip(shared)).collect::<PathBuf>())
}

fn slashes(path: &Path) -> String {
    let parts: Vec<_> = path.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Find the item whose name stands at the first `name`, up to `end` after it.
    fn found(text: &str, name: &str, end: &str) -> Result<Item, &'static str> {
        let at = text.find(name).expect("the name is there");
        let end = at + text[at..].find(end).expect("the end is there") + end.len();
        let place = |offset: usize| {
            let before = text[..offset].trim_start_matches('\u{feff}');
            let start = before.rfind('\n').map_or(0, |line| line + 1);
            LineColumn {
                line: before.matches('\n').count() + 1,
                column: before[start..].chars().count(),
            }
        };
        find(text, (name, place(at)), place(end), None)
    }

    #[test]
    fn an_item_begins_with_what_belongs_to_it() {
        for (before, item) in [
            ("", "struct A {}"),
            ("use b;\n", "/// Doc.\n#[derive(Debug)] // why\npub(crate) struct A { x: [u8; 2] }"),
            ("fn b() {}\n// far\n\n", "// near\n// nearer\nstruct A {}"),
            ("fn b() {} // of b\n", "struct A {}"),
            ("//! Inner.\n#![allow(dead_code)]\n", "#[doc = \"]}\"]\nstruct A {}"),
            ("mod m {\n    //! Inner.\n    ", "/** Doc. */\r\n    struct A {}"),
            ("static S: &str = \"struct A {\";\n", "unsafe impl A {}"),
            ("\u{feff}// é\n\n", "/* ü */ struct A { /* ä */ }"),
        ] {
            let text = format!("{before}{item}\n// after\n");
            let name = if item.contains("impl") { "impl" } else { "A {" };
            let found = match name {
                "impl" => found(&text, "impl", "}"),
                // The name is one piece.
                _ => {
                    let text = text.replace("static S: &str = \"struct A {\";", "");
                    found_name(&text)
                }
            }
            .unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(found.text, item);
            assert_eq!(found.line, before.matches('\n').count() + 1, "{text}");
        }
    }

    fn found_name(text: &str) -> Result<Item, &'static str> {
        let at = text.find("A {").expect("the name is there");
        let marked = format!("{}Item_{}", &text[..at], &text[at..]);
        let item = found(&marked, "Item_A", "}")?;
        Ok(Item { text: item.text.replace("Item_A", "A"), ..item })
    }

    #[test]
    fn the_uses_of_the_file_and_of_the_modules_around_it_are_found() {
        let text = "use a::{b,\n    c};\n#[cfg(x)]\npub(crate) use d;\nfn f() -> impl Sized + use<> { use e; }\n\
                    mod other { use g; }\nmod m {\n    use super::*; // all\n    struct A {}\n}\n/// Doc.\nuse late;\n";
        let uses = found_name(text).expect("it is there").uses;
        let expected =
            ["use a::{b,\n    c};", "#[cfg(x)]\npub(crate) use d;", "use super::*;", "use late;"];
        assert_eq!(uses, expected);
    }

    #[test]
    fn the_helpers_of_an_item_are_found() {
        let text = "fn used() {}\nconst LIMIT: u8 = 1;\npub(crate) const fn sized() {}\nfn not() {}\n\
                    struct Part;\nmacro_rules! twice { () => {} }\nmod other { fn used() {} fn hidden() {} }\n\
                    mod m {\n    fn near() {}\n    struct A {\n        not: [Part; LIMIT],\n    }\n}\n";
        let of = |text: &str| found_name(text).expect("it is there").helpers;
        assert_eq!(of(text), ["LIMIT", "Part"]);
        let of = |body: &str| {
            let item = format!("impl A {{ fn it(&self) {{ {body} }}");
            found_name(&text.replace("struct A {", &item)).expect("it is there").helpers
        };
        assert_eq!(of("used(); sized(); near(); twice!();"), ["used", "sized", "twice", "near"]);
        assert_eq!(of("self.used(); x.sized; let near = 1; fn twice() {}"), [""; 0]);
        assert_eq!(of("/* used */ \"sized\"; hidden(); other::LIMIT;"), ["LIMIT", "other"]);
    }

    #[test]
    fn what_a_macro_takes_or_writes_is_not_found() {
        for text in [
            "macro_rules! m { () => { struct A {} } }",
            "m! { struct A {} }",
            "m!(mod x { struct A {} });",
        ] {
            assert_eq!(found_name(text), Err("it stands inside of a macro"), "{text}");
        }
        assert!(found_name("fn f() { if !ready { struct A {} } }").is_ok());
        // Tokens that a macro gave another place.
        let place = |column| LineColumn { line: 1, column };
        assert!(find("struct A {}", ("B", place(7)), place(11), None).is_err());
        assert!(find("struct A {}", ("A", place(7)), place(10), None).is_err());
        assert!(find("struct A {}", ("A", place(90)), place(91), None).is_err());
    }

    #[test]
    fn no_path_is_absolute() {
        let beside = |folder, file| beside(Path::new(folder), Path::new(file));
        assert_eq!(beside("/w/crate", "/w/crate/src/a.rs"), "src/a.rs");
        assert_eq!(beside("/w/crate", "/w/shared/a.rs"), "../shared/a.rs");
    }
}
