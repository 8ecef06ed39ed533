//! Who a process is: tokens with users, groups, privileges, and what threads impersonate.
//!
//! Facts: `_TOKEN` in the layout tables; well-known SIDs, privileges and logon ids from the SDK. XP lists its privileges
//! and hangs an impersonation record on the thread; later ones keep bits and a counted pointer.

use super::World;
use kd_sdk::address::Va;
use serde_json::json;

/// Whom a token stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum User {
    /// The system itself.
    System,
    /// `NT AUTHORITY\LOCAL SERVICE`.
    LocalService,
    /// The one at the console.
    Person,
}

/// A SID: authority and what follows.
type Sid = (u64, &'static [u32]);

/// Mandatory, on by default, on.
const ON: u64 = 7;
/// That, and may be owner.
const OWNER: u64 = 0xf;
/// A logon session's.
const LOGON: u64 = 0xc000_0007;
/// An integrity level.
const INTEGRITY: u64 = 0x60;

#[rustfmt::skip]
/// User and groups, the user first.
fn members(user: User) -> Vec<(Sid, u64)> {
    match user {
        User::System => vec![((5, &[18]), 0), ((5, &[32, 544]), OWNER - 1), ((1, &[0]), ON), ((5, &[11]), ON), ((16, &[16384]), INTEGRITY)],
        User::LocalService => vec![((5, &[19]), 0), ((1, &[0]), ON), ((5, &[32, 545]), ON), ((5, &[6]), ON), ((16, &[16384]), INTEGRITY)],
        User::Person => vec![((5, &[21, 1_004_336_348, 1_177_238_915, 682_003_330, 1001]), 0), ((5, &[21, 1_004_336_348, 1_177_238_915, 682_003_330, 513]), ON),
            ((1, &[0]), ON), ((5, &[32, 545]), ON), ((5, &[4]), ON), ((5, &[5, 0, 0x1_c9d3]), LOGON), ((16, &[8192]), INTEGRITY)],
    }
}

/// Privileges by number: `(number, enabled, enabled by default)`.
fn privileges(user: User) -> &'static [(u64, bool, bool)] {
    match user {
        User::System => &[
            (2, false, false),
            (3, true, true),
            (7, true, true),
            (8, false, false),
            (10, false, false),
            (20, true, true),
            (29, true, true),
        ],
        User::LocalService => &[(3, false, false), (21, true, true), (23, true, true), (29, true, true)],
        User::Person => &[(19, false, false), (23, true, true), (25, false, false), (33, false, false)],
    }
}

/// As it is written, `S-1-5-18`.
fn text((authority, parts): Sid) -> String {
    parts.iter().fold(format!("S-1-{authority}"), |text, part| format!("{text}-{part}"))
}

impl World {
    /// Fills the token of a process.
    pub(super) fn primary_token(&mut self, process: Va, user: User, session: u64) {
        let Some(token) = self.unref(process, "_EPROCESS.Token") else { return };
        self.token(token, user, session, 1, 0);
        self.facts["tokens"].as_array_mut().expect("tokens").last_mut().expect("one")["process"] =
            process.0.into();
    }

    /// Fills a token: `kind` is 1 for a primary one and 2 for one that a thread impersonates.
    fn token(&mut self, token: Va, user: User, session: u64, kind: u64, level: u64) {
        let generation = self.options.generation;
        let id =
            0x1_2000 + 0x1d * self.facts.get("tokens").map_or(0, |t| t.as_array().map_or(0, Vec::len)) as u64;
        let authentication = match user {
            User::System => 0x3e7,
            User::LocalService => 0x3e5,
            User::Person => 0x1_c9f4,
        };
        // XP has no integrity levels.
        let mut members = members(user);
        members.retain(|m| generation.build >= 6000 || m.1 != INTEGRITY);
        let step = generation.at("_SID_AND_ATTRIBUTES");
        let array = self.pool_block(b"SeUg", step * members.len() as u64);
        let mut sids = Vec::new();
        for (index, (sid, attributes)) in members.iter().enumerate() {
            let at = self.sid(*sid);
            let entry = array.add(index as u64 * step);
            self.fill(entry, "_SID_AND_ATTRIBUTES", &[("Sid", at.0), ("Attributes", *attributes)]);
            sids.push(at);
        }
        let source: &[u8; 8] = if user == User::Person { b"User32 \0" } else { b"*SYSTEM*" };
        self.write(token.add(generation.at("_TOKEN.TokenSource.SourceName")), source);
        let integrity = members.iter().position(|m| m.1 == INTEGRITY);
        let group = sids[1];
        let fields = [
            ("TokenSource.SourceIdentifier", 0),
            ("TokenId", id),
            ("AuthenticationId", authentication),
            ("ModifiedId", id + 1),
            ("ExpirationTime", i64::MAX as u64),
            ("SessionId", session),
            ("UserAndGroupCount", members.len() as u64),
            ("UserAndGroups", array.0),
            ("PrimaryGroup", group.0),
            ("TokenType", kind),
            ("ImpersonationLevel", level),
            ("TokenFlags", 0x2000),
            ("TokenInUse", u64::from(kind == 1)),
            ("IntegrityLevelIndex", integrity.map_or(u64::from(u32::MAX), |i| i as u64)),
            ("MandatoryPolicy", 1),
        ];
        self.fill(token, "_TOKEN", &fields);
        let owned = privileges(user);
        if generation.find("_TOKEN.Privileges.Present").is_some() {
            let bits = |wanted: fn(&(u64, bool, bool)) -> bool| {
                owned.iter().filter(|p| wanted(p)).fold(0, |bits, p| bits | 1 << p.0)
            };
            let fields = [
                ("Present", bits(|_| true)),
                ("Enabled", bits(|p| p.1)),
                ("EnabledByDefault", bits(|p| p.2)),
            ];
            self.fill(token, "_TOKEN.Privileges", &fields);
        } else {
            // LUID_AND_ATTRIBUTES: number, zero, 1 by default | 2 enabled.
            let list = self.pool_block(b"SePr", 12 * owned.len() as u64);
            for (index, &(number, on, by_default)) in owned.iter().enumerate() {
                let entry = list.add(12 * index as u64);
                self.write(entry, &number.to_le_bytes());
                self.write(entry.add(8), &(u32::from(by_default) | u32::from(on) << 1).to_le_bytes());
            }
            self.fill(token, "_TOKEN", &[("PrivilegeCount", owned.len() as u64), ("Privileges", list.0)]);
        }
        let listed: Vec<_> =
            members.iter().map(|(sid, a)| json!({ "sid": text(*sid), "attributes": a })).collect();
        let rights: Vec<_> =
            owned.iter().map(|p| json!({ "number": p.0, "enabled": p.1, "default": p.2 })).collect();
        let source = String::from_utf8_lossy(source).trim_end_matches('\0').to_owned();
        self.fact("tokens", json!({
            "token": token.0, "id": id, "authentication_id": authentication, "modified_id": id + 1, "session": session,
            "type": kind, "level": level, "user": listed[0]["sid"], "groups": &listed[1..], "privileges": rights,
            "primary_group": text(members[1].0), "source": source,
        }));
    }

    /// Writes a SID to the pool.
    fn sid(&mut self, (authority, parts): Sid) -> Va {
        let at = self.pool_block(b"SeSd", 8 + 4 * parts.len() as u64);
        let mut bytes = vec![1, parts.len() as u8];
        bytes.extend(&authority.to_be_bytes()[2..]);
        bytes.extend(parts.iter().flat_map(|p| p.to_le_bytes()));
        self.write(at, &bytes);
        at
    }

    /// Lets a thread act for somebody else. Levels: 2 impersonation, 3 delegation.
    pub(super) fn impersonate(&mut self, thread: Va, user: User, session: u64) {
        let generation = self.options.generation;
        let token = self.new_object("Token", generation.at("_TOKEN"), None);
        self.token(token, user, session, 2, 2);
        self.facts["tokens"].as_array_mut().expect("tokens").last_mut().expect("one")["thread"] =
            thread.0.into();
        self.set(thread, "_ETHREAD.ActiveImpersonationInfo", 1);
        if generation.find("_ETHREAD.ClientSecurity").is_some() {
            self.set(thread, "_ETHREAD.ClientSecurity.ImpersonationData", token.0 | 2);
        } else {
            // PS_IMPERSONATION_INFORMATION: token, copy on open, effective only, level.
            let record = self.pool_block(b"PsIm", 12);
            self.write_pointer(record, token.0);
            self.write(record.add(8), &2u32.to_le_bytes());
            self.set(thread, "_ETHREAD.ImpersonationInfo", record.0);
        }
    }
}
