//! `!token`: in whose name a process or a thread acts, and what it may do.

use crate::page::{Page, is_current, why};
use kd_sdk::error::{Error, Result};
use kd_sdk::nt::process::{self, Process};
use kd_sdk::nt::thread::{self, Thread};
use kd_sdk::nt::token::{Group, Token, privilege_name, well_known};
use kd_sdk::output::Style;
use kd_sdk::prelude::*;

/// `SE_GROUP_*`.
const GROUP_BITS: [(u64, &str); 8] = [
    (1, "Mandatory"),
    (2, "Default"),
    (4, "Enabled"),
    (8, "Owner"),
    (0x10, "DenyOnly"),
    (0x20, "GroupIntegrity"),
    (0x40, "GroupIntegrityEnabled"),
    (0xc000_0000, "LogonId"),
];

/// `!token [-n] [ADDRESS]`.
pub fn token(session: &Session<'_>, args: &str) -> Result<()> {
    let page = Page::new(session);
    let mut args = Args::new(args);
    while let Some(option) = args.option() {
        // Well-known names are always shown; others would need the machine that crashed.
        if option != "n" {
            return Err(Error::Usage(format!("!token has no option -{option}")));
        }
    }
    let word = args.word();
    args.finish()?;
    page.kernel.structure("_TOKEN")?;
    let at = match is_current(word) {
        false => page.kernel.address(page.number(word.unwrap_or_default())?),
        true => current(&page)?,
    };
    let token = Token::read(&page.kernel, Va(at.0 & !7)).map_err(|error| match error {
        Error::Unreadable { why, .. } => {
            Error::NotFound(format!("the token at {} cannot be read: {why}", page.ptr(at)))
        }
        other => other,
    })?;
    Sheet { page: &page, token: &token }.show()
}

/// The token that is in force: the thread's if it impersonates, else the process's.
fn current(page: &Page<'_>) -> Result<Va> {
    let (kernel, out) = (&page.kernel, page.out);
    let chosen = process::current(kernel)?;
    if let Ok(thread) = thread::current(kernel).and_then(|at| Thread::read(kernel, at))
        && thread.process().is_ok_and(|owner| owner == chosen)
        && let Ok(Some(whom)) = thread.impersonation()
    {
        out.line(&format!("Thread {} is impersonating", page.ptr(thread.at)));
        return Ok(whom.token);
    }
    out.line("Thread is not impersonating. Using process token...");
    Process::read(kernel, chosen)?.token()
}

struct Sheet<'p, 'a> {
    page: &'p Page<'a>,
    token: &'p Token<'a>,
}

impl Sheet<'_, '_> {
    fn show(&self) -> Result<()> {
        let (page, out, record) = (self.page, self.page.out, &self.token.record);
        out.field("address", Value::Hex(self.token.at.0), &format!("_TOKEN 0x{}", page.ptr(self.token.at)));
        out.end_line();
        out.text("TS Session ID: ");
        page.count("session", &record.u64("SessionId"), |id| format!("{id:#x}"));
        out.end_line();
        self.sids()?;
        out.text("Primary Group: ");
        let group = self.token.primary_group(&page.kernel);
        page.name("primary_group", &group);
        out.end_line();
        self.privileges()?;
        let luid = |path: &str| self.token.luid(path);
        let pair = |value: u64| format!("({:x},{:x})", value >> 32, value & 0xffff_ffff);
        out.text("Authentication ID:         ");
        page.hex("authentication_id", &luid("AuthenticationId"), pair);
        out.end_line();
        let kind = record.u64("TokenType");
        let level = ["Anonymous", "Identification", "Impersonation", "Delegation"];
        out.text("Impersonation Level:       ");
        let named = record
            .u64("ImpersonationLevel")
            .map(|value| level.get(value as usize).map_or(format!("{value:#x}"), |name| (*name).to_owned()));
        page.name("impersonation_level", &named);
        out.end_line();
        out.text("TokenType:                 ");
        page.name(
            "token_type",
            &kind.map(|kind| if kind == 1 { "Primary" } else { "Impersonation" }.to_owned()),
        );
        out.end_line();
        out.text("Source: ");
        let source = record.text("TokenSource.SourceName").map(|name| name.trim_end().to_owned());
        out.styled_field(
            "source",
            source.as_ref().map_or(Value::Null, |source| Value::Text(source)),
            Style::Symbol,
            &format!("{:18}", source.as_ref().map_or_else(why, Clone::clone)),
        );
        out.text(" TokenFlags: ");
        page.hex("flags", &record.u64("TokenFlags"), |flags| format!("{flags:#x}"));
        if let Ok(used) = record.u64("TokenInUse") {
            out.field("in_use", Value::Bool(used != 0), if used != 0 { " ( Token in use )" } else { "" });
        }
        out.end_line();
        out.text("Token ID: ");
        page.hex("token_id", &luid("TokenId"), |id| format!("{:16}", format!("{id:x}")));
        out.text(" ParentToken ID: ");
        page.hex("parent_token_id", &luid("ParentTokenId"), |id| format!("{id:x}"));
        out.end_line();
        out.text("Modified ID:               ");
        page.hex("modified_id", &luid("ModifiedId"), pair);
        out.end_line();
        out.text("RestrictedSidCount: ");
        page.count("restricted_sid_count", &record.u64("RestrictedSidCount"), |count| format!("{count:<6}"));
        out.text(" RestrictedSids: ");
        page.hex("restricted_sids_at", &record.u64("RestrictedSids"), |at| format!("0x{}", page.ptr(Va(at))));
        out.end_line();
        match luid("OriginatingLogonSession") {
            Err(Error::NoSymbols(_)) => {}
            session => {
                out.text("OriginatingLogonSession: ");
                page.hex("originating_logon_session", &session, |id| format!("{id:x}"));
                out.end_line();
            }
        }
        Ok(())
    }

    /// User, groups, and what restricts them.
    fn sids(&self) -> Result<()> {
        let (page, out) = (self.page, self.page.out);
        match self.token.groups(&page.kernel) {
            Ok(groups) => {
                out.text("User: ");
                match groups.first() {
                    Some(user) => self.sid("user", user),
                    None => out.field("user", Value::Null, "none"),
                }
                out.end_line();
                self.list("User Groups:", "groups", groups.get(1..).unwrap_or_default());
            }
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => {
                out.text("User: ");
                page.absent("user", &error);
                out.end_line();
            }
        }
        for (title, key, groups) in [
            ("Restricted SIDs:", "restricted_sids", self.token.restricted(&page.kernel)),
            ("Capabilities:", "capabilities", self.token.capabilities(&page.kernel)),
        ] {
            match groups {
                Ok(groups) if groups.is_empty() => {}
                Ok(groups) => self.list(title, key, &groups),
                Err(Error::NoSymbols(_)) => {}
                Err(error) => page.refuse(error, title)?,
            }
        }
        Ok(())
    }

    fn list(&self, title: &str, key: &str, groups: &[Group]) {
        let out = self.page.out;
        out.line(title);
        out.list(key, |_| {
            for (index, group) in groups.iter().enumerate() {
                out.record("", |_| {
                    out.text(&format!(" {index:02} "));
                    self.sid("sid", group);
                    out.end_line();
                    let words = attributes(group.attributes);
                    let text = format!("    Attributes - {words}");
                    out.field("attributes", Value::Hex(group.attributes), &text);
                    out.end_line();
                });
            }
        });
    }

    fn sid(&self, key: &str, group: &Group) {
        let out = self.page.out;
        match &group.sid {
            Ok(sid) => {
                out.name(key, sid);
                if let Some(name) = well_known(sid) {
                    out.styled(Style::Dim, &format!(" ({name})"));
                }
            }
            Err(error) => self.page.absent(key, error),
        }
    }

    fn privileges(&self) -> Result<()> {
        let (page, out) = (self.page, self.page.out);
        out.line("Privs:");
        match self.token.privileges(&page.kernel) {
            Ok(list) => out.list("privileges", |_| {
                for privilege in list {
                    out.record("", |_| {
                        let number = privilege.number;
                        out.field("number", Value::UInt(number), &format!(" {number:02} {number:#011x} "));
                        let name = privilege_name(number).unwrap_or("Unknown Privilege");
                        out.styled_field(
                            "name",
                            Value::Text(name),
                            Style::Symbol,
                            &format!("{name:41} Attributes - "),
                        );
                        let (on, first) = (privilege.enabled, privilege.by_default);
                        out.field("enabled", Value::Bool(on), if on { "Enabled " } else { "" });
                        out.field("default", Value::Bool(first), if first { "Default " } else { "" });
                        out.end_line();
                    });
                }
            }),
            Err(error) => page.refuse(error, "the privileges")?,
        }
        Ok(())
    }
}

/// `Mandatory Default Enabled`.
fn attributes(bits: u64) -> String {
    let set = GROUP_BITS.iter().filter(|(bit, _)| bits & bit == *bit).map(|(_, name)| *name);
    set.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::attributes;

    #[test]
    fn attributes_have_names() {
        assert_eq!(attributes(7), "Mandatory Default Enabled");
        assert_eq!(attributes(0xc000_0007), "Mandatory Default Enabled LogonId");
        assert_eq!(attributes(0x60), "GroupIntegrity GroupIntegrityEnabled");
    }
}
