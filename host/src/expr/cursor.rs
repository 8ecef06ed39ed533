//! A place in a text that both evaluators move forward.

/// The text and how far it is read. All steps keep to character boundaries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Cursor<'t> {
    pub fn new(text: &'t str) -> Cursor<'t> {
        Cursor { text, at: 0 }
    }

    /// What is not read yet.
    pub fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Skips blanks; then what is not read yet.
    pub fn skip_blanks(&mut self) -> &'t str {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
        self.rest()
    }

    /// Moves on by `bytes`, which must be what a part of [`rest`](Self::rest) measures.
    pub fn advance(&mut self, bytes: usize) {
        self.at = self.at.saturating_add(bytes).min(self.text.len());
    }

    /// Skips blanks and `prefix`; false (and nothing but blanks skipped) where something else stands.
    pub fn eat(&mut self, prefix: &str) -> bool {
        let found = self.skip_blanks().starts_with(prefix);
        if found {
            self.advance(prefix.len());
        }
        found
    }

    /// The inside of the brackets that open here, up to the one that closes them; strings inside are not looked
    /// into. `None` where no bracket opens or none closes.
    pub fn bracketed(&mut self) -> Option<&'t str> {
        let rest = self.skip_blanks();
        if !rest.starts_with('(') {
            return None;
        }
        let (mut depth, mut quoted) = (0usize, false);
        for (at, c) in rest.char_indices() {
            match c {
                '"' => quoted = !quoted,
                '(' if !quoted => depth += 1,
                ')' if !quoted => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        self.advance(at + 1);
                        return rest.get(1..at);
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// The characters at the cursor that `belong`, given each and the text from it on.
    pub fn take_while(&mut self, belong: impl Fn(char, &'t str) -> bool) -> &'t str {
        let rest = self.rest();
        let end = rest
            .char_indices()
            .find(|(at, c)| !belong(*c, rest.get(*at..).unwrap_or_default()))
            .map_or(rest.len(), |(at, _)| at);
        self.advance(end);
        rest.get(..end).unwrap_or_default()
    }
}
