//! Finds where an HTML page's body begins, over any number of pieces, and puts a piece of markup there.
//!
//! In: the page's bytes as they come, in any charset that has ASCII in it. Out: the same bytes, and the markup as the first
//! thing of the body; nowhere if the page begins no body early enough. Bytes are told apart as HTML's tokenizer does it
//! (<https://html.spec.whatwg.org/multipage/parsing.html#tokenization>), as far as what stands before a body needs it.
//! Never here: which pages these are (banner.rs).
//! Invariant: every byte of the page goes on, in its order; nothing but a tag's name is held back for the next piece.

use bytes::{BufMut as _, Bytes, BytesMut};

/// Where a page's beginning must have ended: beyond, the page goes on as it is.
const SEARCHED_BYTES_MAX: usize = 256 * 1024;

/// The longest name of a tag that matters.
const NAME_MAX: usize = 9;
/// What may stand before a body without beginning it.
const BEFORE_BODY: [&str; 12] = [
    "html", "head", "meta", "link", "base", "basefont", "bgsound", "script", "style", "title", "noscript",
    "noframes",
];
/// Elements whose content is text, whatever it looks like, by what ends them.
const RAW_ENDS: [&str; 9] = [
    SCRIPT_END,
    "</style",
    "</title",
    "</noscript",
    "</noframes",
    "</textarea",
    "</iframe",
    "</noembed",
    "</xmp",
];
const SCRIPT_END: &str = "</script";

/// A page on its way.
#[derive(Debug)]
pub struct BodyStart {
    markup: Bytes,
    state: State,
    /// `<` and what is known of a tag's name: the markup may have to stand before it.
    held: BytesMut,
    /// How many bytes were looked at.
    searched: usize,
    /// How many `<template>`s are open: what they hold is no part of the page.
    templates: usize,
    /// All bytes so far are those of [`MARK`].
    in_mark: bool,
}

/// What may stand before a page that is UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

#[derive(Clone, Copy, Debug)]
enum State {
    /// Between tags.
    Text,
    /// After `<`: the tag's name is in `held`.
    Name,
    /// In a tag, behind its name.
    Tag { then: After, at: At },
    /// In `<!…`, `<?…` or `</…` without a name, up to `>`.
    Declaration,
    /// In a comment; what was read since `<!--`.
    Comment(Recent),
    /// In an element whose content is text, up to `end`.
    Raw { end: &'static str, escape: Escape, recent: Recent },
    /// The markup is in, or will never be.
    Over,
}

/// What follows a tag's end.
#[derive(Clone, Copy, Debug)]
enum After {
    Text,
    Body,
    Raw { end: &'static str },
}

/// Where in a tag: a quote counts only where a value begins.
#[derive(Clone, Copy, Debug)]
enum At {
    BeforeName,
    /// In an attribute's name, or behind it.
    Name,
    BeforeValue,
    Unquoted,
    Quoted(u8),
}

/// How far a script is inside of `<!--`, where a second `<script` hides one `</script`. Old pages write scripts so.
#[derive(Clone, Copy, Debug)]
enum Escape {
    No,
    Once,
    Twice,
}

/// The last bytes of a text, in small letters.
#[derive(Clone, Copy, Default, Debug)]
struct Recent(u128);

impl Recent {
    fn and(self, byte: u8) -> Self {
        Self(self.0 << 8 | u128::from(byte.to_ascii_lowercase()))
    }

    fn ends_with(self, text: &str) -> bool {
        text.bytes().rev().enumerate().all(|(n, byte)| self.0 >> (8 * n) & 0xff == u128::from(byte))
    }

    /// No byte of a text is 0, so what is shorter than the register is known whole.
    fn is(self, text: &str) -> bool {
        self.ends_with(text) && self.0 >> (8 * text.len()) == 0
    }
}

impl BodyStart {
    /// Before the first byte.
    pub fn new(markup: Bytes) -> Self {
        Self { markup, state: State::Text, held: BytesMut::new(), searched: 0, templates: 0, in_mark: true }
    }

    /// The next piece of the page, as it goes on.
    pub fn take(&mut self, piece: Bytes) -> Bytes {
        if matches!(self.state, State::Over) {
            return piece;
        }
        let mut out = BytesMut::with_capacity(piece.len() + self.held.len() + self.markup.len());
        let mut bytes = piece.iter();
        while !matches!(self.state, State::Over) {
            let Some(byte) = bytes.next() else { return out.freeze() };
            self.searched += 1;
            // No text of ASCII holds a zero byte: UTF-16, without a header that says so.
            if self.searched > SEARCHED_BYTES_MAX || *byte == 0 {
                self.go_on(State::Over, &mut out);
            }
            self.read(*byte, &mut out);
        }
        out.extend_from_slice(bytes.as_slice());
        out.freeze()
    }

    /// What is held back at the page's end.
    pub fn end(&mut self) -> Bytes {
        self.held.split().freeze()
    }

    fn read(&mut self, byte: u8, out: &mut BytesMut) {
        self.in_mark &= self.searched.checked_sub(1).and_then(|place| MARK.get(place)) == Some(&byte);
        match self.state {
            State::Text if byte == b'<' => {
                self.held.put_u8(byte);
                self.state = State::Name;
            }
            State::Text => {
                // The mark of UTF-8 is the page's own; those of UTF-16 say that nothing here can be read.
                if self.searched <= 2 && matches!(byte, 0xfe | 0xff) {
                    self.state = State::Over;
                } else if self.templates == 0 && !byte.is_ascii_whitespace() && !self.in_mark {
                    self.put_markup(out);
                }
                out.put_u8(byte);
            }
            State::Name => self.read_name(byte, out),
            State::Tag { then, at } => {
                out.put_u8(byte);
                self.read_tag(then, at, byte, out);
            }
            State::Declaration => {
                out.put_u8(byte);
                if byte == b'>' {
                    self.state = State::Text;
                }
            }
            State::Comment(recent) => {
                out.put_u8(byte);
                let recent = recent.and(byte);
                let is_over =
                    recent.ends_with("-->") || recent.ends_with("--!>") || recent.is(">") || recent.is("->");
                self.state = if is_over { State::Text } else { State::Comment(recent) };
            }
            State::Raw { end, escape, recent } => {
                out.put_u8(byte);
                self.state = in_raw(end, escape, recent, byte);
            }
            State::Over => out.put_u8(byte),
        }
    }

    /// Decides by a tag's name what it is, once the name is known.
    fn read_name(&mut self, byte: u8, out: &mut BytesMut) {
        self.held.put_u8(byte);
        let tag = self.held.get(1..).unwrap_or_default();
        if tag == b"!--" {
            return self.go_on(State::Comment(Recent::default()), out);
        }
        if b"!--".starts_with(tag) || tag == b"/" {
            return;
        }
        let (closes, name) = match tag.strip_prefix(b"/") {
            Some(name) => (true, name),
            None => (false, tag),
        };
        let has_name = name.first().is_some_and(u8::is_ascii_alphabetic);
        if closes && !has_name || matches!(tag.first(), Some(b'!' | b'?')) {
            let state = if byte == b'>' { State::Text } else { State::Declaration };
            return self.go_on(state, out);
        }
        let is_known = ends_name(byte) || !byte.is_ascii_alphanumeric() || name.len() > NAME_MAX;
        if has_name && !is_known {
            return;
        }
        let name = name.strip_suffix(&[byte]).filter(|_| ends_name(byte)).unwrap_or(name);
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();

        if name == "template" {
            self.templates = if closes { self.templates.saturating_sub(1) } else { self.templates + 1 };
        } else if self.templates == 0 && !closes && !BEFORE_BODY.contains(&&*name) {
            match &*name {
                "body" => self.enter_tag(byte, After::Body, out),
                // It has no body, and something before it would take its place.
                "frameset" => self.go_on(State::Over, out),
                // Anything else begins the body that the page did not write.
                _ => {
                    self.put_markup(out);
                    out.extend_from_slice(&self.held.split());
                }
            }
            return;
        }
        let end = RAW_ENDS.into_iter().find(|end| !closes && end.strip_prefix("</") == Some(&*name));
        self.enter_tag(byte, end.map_or(After::Text, |end| After::Raw { end }), out);
    }

    /// Goes on behind a tag's name; `byte` ended the name and may end the tag.
    fn enter_tag(&mut self, byte: u8, then: After, out: &mut BytesMut) {
        self.go_on(State::Tag { then, at: At::BeforeName }, out);
        self.read_tag(then, At::BeforeName, byte, out);
    }

    fn read_tag(&mut self, then: After, at: At, byte: u8, out: &mut BytesMut) {
        let at = match (at, byte) {
            (At::Quoted(quote), _) if byte == quote => At::BeforeName,
            (At::Quoted(quote), _) => At::Quoted(quote),
            (_, b'>') => {
                self.state = match then {
                    After::Text => State::Text,
                    After::Raw { end } => State::Raw { end, escape: Escape::No, recent: Recent::default() },
                    After::Body => return self.put_markup(out),
                };
                return;
            }
            (At::BeforeValue, b'"' | b'\'') => At::Quoted(byte),
            (At::BeforeName | At::Unquoted, _) if byte.is_ascii_whitespace() => At::BeforeName,
            (At::BeforeName | At::Name, b'/') => At::BeforeName,
            (At::Name, b'=') => At::BeforeValue,
            (At::BeforeValue, _) if byte.is_ascii_whitespace() => At::BeforeValue,
            (At::BeforeName | At::Name, _) => At::Name,
            (At::BeforeValue | At::Unquoted, _) => At::Unquoted,
        };
        self.state = State::Tag { then, at };
    }

    fn put_markup(&mut self, out: &mut BytesMut) {
        out.extend_from_slice(&self.markup);
        self.state = State::Over;
    }

    /// Lets go of what is held back.
    fn go_on(&mut self, state: State, out: &mut BytesMut) {
        out.extend_from_slice(&self.held.split());
        self.state = state;
    }
}

const fn ends_name(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, b'>' | b'/')
}

/// The state behind one more byte of an element whose content is text.
fn in_raw(end: &'static str, escape: Escape, before: Recent, byte: u8) -> State {
    let recent = before.and(byte);
    let is_script = end == SCRIPT_END;
    let escape = match escape {
        Escape::No if is_script && recent.ends_with("<!--") => Escape::Once,
        Escape::Once | Escape::Twice if recent.ends_with("-->") => Escape::No,
        Escape::Once if ends_name(byte) && before.ends_with("<script") => Escape::Twice,
        Escape::Twice if ends_name(byte) && before.ends_with(SCRIPT_END) => Escape::Once,
        Escape::No | Escape::Once if ends_name(byte) && before.ends_with(end) => {
            return if byte == b'>' {
                State::Text
            } else {
                State::Tag { then: After::Text, at: At::BeforeName }
            };
        }
        same => same,
    };
    State::Raw { end, escape, recent }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The page as it goes on, cut into pieces of `size` bytes.
    fn passed(page: &[u8], size: usize) -> Vec<u8> {
        passed_in(page.chunks(size))
    }

    fn passed_in<'p>(pieces: impl Iterator<Item = &'p [u8]>) -> Vec<u8> {
        let mut start = BodyStart::new(Bytes::from_static(b"[B]"));
        let mut out = Vec::new();
        for piece in pieces {
            out.extend_from_slice(&start.take(Bytes::copy_from_slice(piece)));
        }
        out.extend_from_slice(&start.end());
        out
    }

    /// Pages, with `[B]` where the markup belongs; without one, it belongs nowhere.
    #[rustfmt::skip]
    const PAGES: &[&[u8]] = &[
        b"<!doctype html><html><head><title>T</title></head><body>[B]<p>x</p></body></html>",
        b"<BODY Class=\"a>b\" data-x='>' >[B]x",
        b"<body\n>[B]x",
        b"<body/>[B]x",
        b"<body>[B]<body>x",
        // Quotes count only where a value begins.
        b"<body title=it's>[B]x'>y",
        b"<body title = \"a'>b\" x=\"\"y='>'>[B]x",
        b"<body a\"b>[B]x\">",
        b"<body a=b\"c>[B]x\">",
        b"<body / a = >[B]x",
        // Not the body: in a comment, a script, a title, an attribute, a template, a text area in a template.
        b"<!-- <body> --><body>[B]x",
        b"<!-- a > b -- <body> ---><body>[B]x",
        b"<!----><body>[B]x",
        b"<!--><body>[B]x",
        b"<!---><body>[B]x",
        b"<!-- --!><body>[B]x",
        b"<!--!><body>--><body>[B]x",
        b"<!-<body>[B]x<body>",
        b"</ <body>[B]x<body>",
        b"</><body>[B]x",
        b"<![CDATA[<body>[B]]]>x",
        b"<script>if (a<b) '<body>'</script><body>[B]x",
        b"<script>'</scrip'<</script ><body>[B]x",
        b"<script>'</scripts>'</script a='>'><body>[B]x",
        b"<SCRIPT async src=\"/x?<body>\"></Script><body>[B]x",
        b"<script/></script><body>[B]x",
        b"<script><!--\nwrite(\"<script src='x'></script>\");\n//--></script><body>[B]x",
        b"<script><!-- <scripted> </script><body>[B]x",
        b"<script><!-- <script> --> '</script><body>[B]x",
        b"<script><!-- <script> </script> <script> </script> </script><body>[B]x",
        b"<script><!--></script><body>[B]x",
        b"<script>'<script>'</script><body>[B]x",
        b"<style><!-- <style></style><body>[B]x",
        b"<title><body></title><body>[B]x",
        b"<style>a>b{}</style><noscript><p><body></noscript><body>[B]x",
        b"<noframes><body></noframes><body>[B]x",
        b"<meta content='<body>'><link rel=x><base href=/><body>[B]x",
        b"<template><body><p><template></template>x</template><body>[B]y",
        b"<template><textarea></template><body></textarea></template><body>[B]y",
        // A page that does not write its body begins it with the first thing that belongs there.
        b"[B]<p>x",
        b"[B]x",
        b"[B]<3",
        b"[B]< body>",
        b"[B]<textarea><body></textarea>",
        b"<!doctype html>\n<title>T</title>\n[B]x",
        b"<html><head></head>\n[B]<main>x",
        b"[B]<bodyguard>x",
        b"[B]<body-x>x",
        b"[B]<h1>x",
        b"[B]<x-element-with-a-long-name>x",
        b"[B]\xc3\xa9",
        b"\xef\xbb\xbf<!doctype html><body>[B]x",
        // Half a mark is text.
        b"\xef[B]\xbf x",
        b"\xef \n[B]\xbfx",
        b" [B]\xbb\xbfx",
        b"<?xml version='1.0'?><html><body>[B]x",
        // Nothing to put it into.
        b"<html><head></head><frameset cols='*,*'><frame></frameset>",
        b"\xff\xfe<\0b\0o\0d\0y\0>\0",
        b"\xfe\xff\0<\0p\0>",
        b"\0<\0b\0o\0d\0y\0>",
        b"<\0b\0o\0d\0y\0>\0",
        b"",
        b" \n",
        b"<html><head><script>never closed <body>",
        b"<!-- never closed <body>",
        b"<body never closed",
        b"<template>never closed<body>x",
        b"<html><hea",
        b"<",
    ];

    #[test]
    fn m3_the_banner_is_the_first_thing_of_the_body_however_the_page_is_written_and_cut() {
        for expected in PAGES {
            let page = match expected.windows(3).position(|three| three == b"[B]") {
                Some(at) => [&expected[..at], &expected[at + 3..]].concat(),
                None => expected.to_vec(),
            };
            let text = String::from_utf8_lossy;
            for size in 1..=page.len().max(1) {
                let passed = passed(&page, size);
                assert_eq!(passed, *expected, "{} in pieces of {size}: {}", text(&page), text(&passed));
            }
            // And in two pieces, at every octet.
            for at in 0..page.len() {
                let (before, after) = page.split_at(at);
                let passed = passed_in([before, after].into_iter());
                assert_eq!(passed, *expected, "{} cut at {at}: {}", text(&page), text(&passed));
            }
        }
    }

    #[test]
    fn a_page_that_begins_nothing_for_long_goes_on_as_it_is() {
        let page = [b"<!--".as_slice(), &vec![b'x'; SEARCHED_BYTES_MAX], b"--><body>x"].concat();
        assert_eq!(passed(&page, 1000), page);
    }

    #[test]
    fn a_page_goes_on_as_it_comes_and_only_a_tags_name_waits() {
        let mut start = BodyStart::new(Bytes::from_static(b"[B]"));
        for (piece, on) in [
            ("<!doctype html><ti", "<!doctype html>"),
            ("tle>Wai", "<title>Wai"),
            ("ting</title><meta name=a", "ting</title><meta name=a"),
            ("><bod", ">"),
            ("y>x", "<body>[B]x"),
            ("<bod", "<bod"),
        ] {
            assert_eq!(start.take(Bytes::from_static(piece.as_bytes())), on);
        }
    }

    #[test]
    fn no_bytes_are_lost_whatever_a_page_is() {
        const PIECES: [&[u8]; 16] = [
            b"<",
            b">",
            b"/",
            b"!--",
            b"-->",
            b"body",
            b"script",
            b"title",
            b"template",
            b" a='",
            b"\"",
            b"\xff",
            b"\0",
            b"frameset",
            b" ",
            b"head",
        ];
        let mut seed = 7_u64;
        for _ in 0..5000 {
            let mut page = Vec::new();
            for _ in 0..14 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                page.extend_from_slice(PIECES[usize::try_from(seed >> 60).unwrap()]);
            }
            let once = passed(&page, 1);
            let without = match once.windows(3).position(|three| three == b"[B]") {
                Some(at) => [&once[..at], &once[at + 3..]].concat(),
                None => once.clone(),
            };
            assert_eq!(without, page, "{}", String::from_utf8_lossy(&page));
            for size in [2, 3, 7, 1000] {
                assert_eq!(passed(&page, size), once, "{}", String::from_utf8_lossy(&page));
            }
        }
    }
}
