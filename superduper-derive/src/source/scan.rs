//! The pieces of a file: words, texts, brackets, marks and comments, with their places.
//!
//! A token stream has no comments, so the file is split here. Only as much of the language is known
//! as is needed to tell code from texts and comments.

/// What a piece is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A name, a keyword, a number, a lifetime.
    Word,
    /// A text or a character in quotes.
    Quoted,
    Open(char),
    Close(char),
    Mark(char),
    /// A comment that is no documentation.
    Comment,
    /// Documentation of what follows.
    OuterDoc,
    /// Documentation of what it stands in.
    InnerDoc,
}

/// A stretch of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) kind: Kind,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// All pieces of a file, in order.
pub(super) fn pieces(text: &str) -> Vec<Piece> {
    let mut scanner = Scanner { text, at: 0 };
    let mut found = Vec::new();
    while let Some(piece) = scanner.next() {
        found.push(piece);
    }
    found
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl Scanner<'_> {
    fn next(&mut self) -> Option<Piece> {
        self.skip_while(|letter| letter.is_whitespace() || letter == '\u{feff}');
        let start = self.at;
        let letter = self.peek()?;
        let rest = self.rest();
        let kind = if rest.starts_with("//") {
            self.skip_while(|letter| letter != '\n');
            // The carriage return belongs to the end of the line.
            if self.text[start..self.at].ends_with('\r') {
                self.at -= 1;
            }
            line_comment(&self.text[start..self.at])
        } else if rest.starts_with("/*") {
            self.block_comment();
            block_comment(&self.text[start..self.at])
        } else if letter == '"' {
            self.quoted();
            Kind::Quoted
        } else if letter == '\'' {
            self.character_or_lifetime()
        } else if is_word(letter) {
            self.word()
        } else {
            self.at += letter.len_utf8();
            match letter {
                '(' | '[' | '{' => Kind::Open(letter),
                ')' | ']' | '}' => Kind::Close(letter),
                _ => Kind::Mark(letter),
            }
        };
        Some(Piece { kind, start, end: self.at })
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn skip_while(&mut self, wanted: impl Fn(char) -> bool) {
        let rest = self.rest();
        self.at += rest.find(|letter| !wanted(letter)).unwrap_or(rest.len());
    }

    /// Comments may hold comments.
    fn block_comment(&mut self) {
        let mut depth = 0;
        while let Some(letter) = self.peek() {
            let rest = self.rest();
            if rest.starts_with("/*") {
                depth += 1;
                self.at += 2;
            } else if rest.starts_with("*/") {
                depth -= 1;
                self.at += 2;
                if depth == 0 {
                    return;
                }
            } else {
                self.at += letter.len_utf8();
            }
        }
    }

    /// A text in which `\` escapes, from its first quote on.
    fn quoted(&mut self) {
        let quote = self.peek();
        let mut escaped = true;
        while let Some(letter) = self.peek() {
            self.at += letter.len_utf8();
            if !escaped && Some(letter) == quote {
                return;
            }
            // The first quote was not escaped, but it does not end the text either.
            escaped = !escaped && letter == '\\';
        }
    }

    /// `r"…"`, `r#"…"#`, from the first `#` or quote on.
    fn raw(&mut self) {
        let before = self.at;
        self.skip_while(|letter| letter == '#');
        let end = format!("\"{}", "#".repeat(self.at - before));
        self.at += 1;
        self.at =
            self.rest().find(&end).map_or(self.text.len(), |found| self.at + found + end.len());
    }

    fn character_or_lifetime(&mut self) -> Kind {
        let mut letters = self.rest().chars().skip(1);
        let (first, second) = (letters.next(), letters.next());
        if first == Some('\\') || second == Some('\'') {
            self.quoted();
            return Kind::Quoted;
        }
        self.at += 1;
        self.skip_while(is_word);
        Kind::Word
    }

    fn word(&mut self) -> Kind {
        let start = self.at;
        self.skip_while(is_word);
        let (prefix, rest) = (&self.text[start..self.at], self.rest());
        let is_raw = rest.trim_start_matches('#').starts_with('"');
        match prefix {
            "b" | "c" if rest.starts_with('"') => self.quoted(),
            "b" if rest.starts_with('\'') => self.quoted(),
            "r" | "br" | "cr" if is_raw => self.raw(),
            "r" if rest.starts_with('#') => {
                self.at += 1;
                self.skip_while(is_word);
                return Kind::Word;
            }
            _ => return Kind::Word,
        }
        Kind::Quoted
    }
}

fn is_word(letter: char) -> bool {
    letter == '_' || letter.is_alphanumeric()
}

fn line_comment(text: &str) -> Kind {
    if text.starts_with("//!") {
        Kind::InnerDoc
    } else if text.starts_with("///") && !text.starts_with("////") {
        Kind::OuterDoc
    } else {
        Kind::Comment
    }
}

fn block_comment(text: &str) -> Kind {
    if text.starts_with("/*!") {
        Kind::InnerDoc
    } else if text.starts_with("/**") && !text.starts_with("/***") && text.len() > 4 {
        Kind::OuterDoc
    } else {
        Kind::Comment
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<(Kind, &str)> {
        pieces(text).into_iter().map(|piece| (piece.kind, &text[piece.start..piece.end])).collect()
    }

    #[test]
    fn comments_and_texts_hide_code() {
        use Kind::{Close, Comment, InnerDoc, Mark, Open, OuterDoc, Quoted, Word};
        let text = "//! in\r\n/// out\r\n//// no\n/** out */ /* a /* b */ c */ /**/ struct{}\"a\\\"{\" r#\"\"{\"# '{' '\\'' 'a br\"\\\" b'\\'' r#type;ä";
        let expected = [
            (InnerDoc, "//! in"),
            (OuterDoc, "/// out"),
            (Comment, "//// no"),
            (OuterDoc, "/** out */"),
            (Comment, "/* a /* b */ c */"),
            (Comment, "/**/"),
            (Word, "struct"),
            (Open('{'), "{"),
            (Close('}'), "}"),
            (Quoted, "\"a\\\"{\""),
            (Quoted, "r#\"\"{\"#"),
            (Quoted, "'{'"),
            (Quoted, "'\\''"),
            (Word, "'a"),
            (Quoted, "br\"\\\""),
            (Quoted, "b'\\''"),
            (Word, "r#type"),
            (Mark(';'), ";"),
            (Word, "ä"),
        ];
        assert_eq!(split(text), expected);
    }

    #[test]
    fn what_does_not_end_ends_with_the_file() {
        for text in ["\"a", "r#\"a\"", "/* /* */", "'\\", "b'", "r#", "'"] {
            let end = pieces(text).last().map(|piece| piece.end);
            assert_eq!(end, Some(text.len()), "{text}");
        }
        assert!(pieces(" \n").is_empty());
    }
}
