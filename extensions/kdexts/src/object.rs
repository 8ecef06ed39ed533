//! `!object`: what an object of the kernel is, by address, path or type.

use crate::locks::{plain, problems};
use kd_sdk::nt::directory::Directories;
use kd_sdk::nt::object::{Object, Objects};
use kd_sdk::nt::string;
use kd_sdk::prelude::*;
use std::collections::HashSet;

/// Flags of the command.
const BASIC: u64 = 1;
const CONTENTS: u64 = 8;
const HEADERS: u64 = 0x10;
const PATH: u64 = 0x20;
/// Directories that a search by type walks.
const MOST_DIRECTORIES: usize = 0x1000;

/// Runs the command.
pub fn object(session: &Session<'_>, args: &str) -> Result<()> {
    let mut args = Args::new(args);
    let Some(what) = args.word() else {
        return Err(Error::Usage("ADDRESS, \\PATH or 0 TYPENAME is missing".to_owned()));
    };
    let view = View {
        session,
        out: session.out(),
        objects: Objects::new(session)?,
        directories: Directories::new(session)?,
    };
    if what.starts_with('\\') {
        let object = view.directories.find(&view.objects, what)?;
        return view.show(&object, flags(session, args.rest())?);
    }
    let at = Va(session.evaluate(what)?);
    if at.is_null() {
        return match args.word() {
            Some(kind) => view.of_type(kind),
            None => Err(Error::Usage("0 is followed by the name of a type: !object 0 Event".to_owned())),
        };
    }
    view.show(&view.objects.at(at)?, flags(session, args.rest())?)
}

fn flags(session: &Session<'_>, text: &str) -> Result<u64> {
    if text.is_empty() { Ok(BASIC | CONTENTS) } else { session.evaluate(text) }
}

struct View<'a> {
    session: &'a Session<'a>,
    out: Out<'a>,
    objects: Objects<'a>,
    directories: Directories<'a>,
}

impl View<'_> {
    fn plain(&self, va: Va) -> String {
        plain(self.session, va)
    }

    fn show(&self, object: &Object, flags: u64) -> Result<()> {
        let out = self.out;
        out.field("object", Value::Hex(object.body.0), &format!("Object: {}", self.plain(object.body)));
        out.field(
            "type_object",
            Value::Hex(object.kind.0),
            &format!("  Type: ({})", self.plain(object.kind)),
        );
        out.field("type", Value::Text(&object.kind_name), &format!(" {}", object.kind_name));
        out.end_line();
        // KD calls a header with a type index the new version.
        let version =
            if self.session.types().find("nt!_OBJECT_HEADER")?.has("TypeIndex") { "new" } else { "old" };
        let header = format!("    ObjectHeader: {} ({version} version)", self.plain(object.header));
        out.field("header", Value::Hex(object.header.0), &header);
        out.end_line();
        out.field(
            "handle_count",
            Value::Int(object.handle_count),
            &format!("    HandleCount: {}", object.handle_count),
        );
        let pointers = format!("  PointerCount: {}", object.pointer_count);
        out.field("pointer_count", Value::Int(object.pointer_count), &pointers);
        out.end_line();
        self.name(object, flags);
        if flags & HEADERS != 0 {
            match object.name_info {
                Some(at) => out.line(&format!("    Optional headers: NameInfo {}", self.plain(at))),
                None => out.line("    Optional headers: no NameInfo"),
            }
        }
        match &*object.kind_name {
            "Directory" if flags & CONTENTS != 0 => self.contents(object),
            "SymbolicLink" if flags & CONTENTS != 0 => self.target(object),
            "Driver" => self.next(&format!("!drvobj {} 3", self.plain(object.body))),
            "Device" => self.next(&format!("!devobj {}", self.plain(object.body))),
            "Process" => self.next(&format!("!process {} 7", self.plain(object.body))),
            "Thread" => self.next(&format!("!thread {}", self.plain(object.body))),
            _ => Ok(()),
        }
    }

    /// The command that shows more.
    fn next(&self, command: &str) -> Result<()> {
        self.out.text("    ");
        self.out.link(command, command);
        self.out.end_line();
        Ok(())
    }

    fn name(&self, object: &Object, flags: u64) {
        let out = self.out;
        match self.objects.name(object) {
            Ok(Some(name)) => {
                let text = string::one_line(&name.text);
                let directory = format!("    Directory Object: {}", self.plain(name.directory));
                out.field("directory", Value::Hex(name.directory.0), &directory);
                out.field("name", Value::Text(&text), &format!("  Name: {text}"));
                out.end_line();
            }
            Ok(None) => out.data("name", Value::Null),
            Err(error) => {
                out.data("name", Value::Null);
                out.line(&format!("    Name: {error}"));
            }
        }
        match self.objects.path(object) {
            Ok(Some(path)) => {
                let path = string::one_line(&path);
                let shown = if flags & PATH != 0 { format!("    Path: {path}\n") } else { String::new() };
                out.field("path", Value::Text(&path), &shown);
            }
            Ok(None) => out.data("path", Value::Null),
            Err(error) => {
                out.data("path", Value::Null);
                if flags & PATH != 0 {
                    out.line(&format!("    Path: {error}"));
                }
            }
        }
    }

    fn contents(&self, directory: &Object) -> Result<()> {
        let out = self.out;
        let contents = self.directories.contents(directory.body)?;
        let width = if self.session.target().pointer_size() == 4 { 8 } else { 16 };
        out.end_line();
        out.line(&format!("    Hash {:width$}  {:13} Name", "Address", "Type"));
        out.line(&format!("    ---- {:width$}  {:13} ----", "-------", "----"));
        let mut before = None;
        out.list("contents", |out| {
            for &(bucket, body) in &contents.entries {
                let object = self.objects.at(body);
                let kind = object.as_ref().map_or("?".to_owned(), |object| object.kind_name.to_string());
                let name = object.and_then(|object| self.objects.name(&object));
                let name = match name {
                    Ok(Some(name)) => string::one_line(&name.text),
                    Ok(None) => String::new(),
                    Err(error) => format!("({error})"),
                };
                out.record("", |out| {
                    let shown = if before == Some(bucket) { String::new() } else { format!("{bucket:02}") };
                    before = Some(bucket);
                    out.field("bucket", Value::UInt(bucket), &format!("     {shown:2}  "));
                    out.data("object", Value::Hex(body.0));
                    out.link(&self.plain(body), &format!("!object {}", self.plain(body)));
                    out.field("type", Value::Text(&kind), &format!("  {kind:13}"));
                    out.field("name", Value::Text(&name), &format!(" {name}"));
                    out.end_line();
                });
            }
        });
        problems(&out, "    ", &contents.problems);
        Ok(())
    }

    fn target(&self, link: &Object) -> Result<()> {
        let kind = self.session.types().find("nt!_OBJECT_SYMBOLIC_LINK")?;
        let target = string::unicode(self.session.memory(), kind.at(link.body).address("LinkTarget")?)?;
        let target = string::one_line(&target);
        self.out.field("target", Value::Text(&target), &format!("    Target String is '{target}'"));
        self.out.end_line();
        Ok(())
    }

    /// Every object of a type that the namespace holds.
    fn of_type(&self, kind: &str) -> Result<()> {
        let out = self.out;
        let root = self.directories.root()?;
        let (mut open, mut seen) = (vec![root], HashSet::from([root]));
        let (mut count, mut wrong) = (0u64, Vec::new());
        out.list("objects", |out| {
            while let Some(directory) = open.pop() {
                let contents = match self.directories.contents(directory) {
                    Ok(contents) => contents,
                    Err(Error::Interrupted) => return Err(Error::Interrupted),
                    Err(error) => {
                        wrong.push(format!("directory {}: {error}", self.plain(directory)));
                        continue;
                    }
                };
                wrong.extend(contents.problems);
                for (_, body) in contents.entries {
                    let Ok(object) = self.objects.at(body) else { continue };
                    if &*object.kind_name == "Directory" && open.len() < MOST_DIRECTORIES && seen.insert(body)
                    {
                        open.push(body);
                    }
                    if !object.kind_name.eq_ignore_ascii_case(kind) {
                        continue;
                    }
                    count += 1;
                    let path = self.objects.path(&object).ok().flatten().unwrap_or_default();
                    let path = string::one_line(&path);
                    out.record("", |out| {
                        out.data("object", Value::Hex(body.0));
                        out.link(&self.plain(body), &format!("!object {}", self.plain(body)));
                        out.field("path", Value::Text(&path), &format!("  {path}"));
                        out.end_line();
                    });
                }
            }
            Ok(())
        })?;
        out.line(&format!("{count} named objects of type {kind}"));
        problems(&out, "", &wrong);
        Ok(())
    }
}
