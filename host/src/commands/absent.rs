//! Commands of KD that kd does not have, and why: so that nobody is told "no such command" of one that is in every
//! handbook. From the index of KD's documentation.

/// Words, and what is to be said of them.
const ABSENT: &[(&str, &str)] = &[
    (
        "p t pa pc pct ph pt ta tb tc tct th tt gu gc gh gn gN wt ba bc bd be bl bp bu bm br bs bsc sx sxd sxe sxi sxn \
         sxr sx- ib iw id ob ow od rdmsr wrmsr ah ux .allow_exec_cmds .apply_dbp .attach .breakin .cache .call .childdbg \
         .closehandle .crash .create .createdir .dvalloc .dvfree .echocpunum .event_code .kdfiles .kdtargetmac .kill \
         .ocommand .pagein .reboot .record_branches .restart .send_file .tlist .wake",
        "steers or changes a running machine; this is a dump",
    ),
    (
        "e ea eb ed eD ef ep eq eu ew eza ezu f fp m a .readmem",
        "writes to the target's memory; a dump is only read",
    ),
    (
        ".bpcmds .bpsync .step_filter .force_tb .flash_on_break .idle_cmd .ofilter l",
        "is about running, stopping and stepping; a dump does not run",
    ),
    (".abandon .fiber .fiximports .jdinfo .ttime", "is for user-mode targets; this is a kernel debugger"),
    (
        ".browse .dml_flow .dml_start .exdicmd .hh .open .scroll_prefs .sound_notify .suspend_ui .urestart lse lsp",
        "is about WinDbg's windows; .help and ls are kd's",
    ),
    (
        ".clients .endpsrv .endsrv .netuse .remote .remote_exit .rrestart .server .servers",
        "is about remote sessions, which kd has none of; run it where the dump is",
    ),
    (
        ".nvlist .nvload .nvunload .nvunloadall .scriptdebug .scriptlist .scriptload .scriptproviders .scriptrun \
         .scriptunload .settings",
        "is about JavaScript, NatVis and WinDbg's settings; kd has script files ($$>a<) and extensions (.load)",
    ),
    (".cordll", "is about managed code, which kd does not read"),
    (
        ".srcfix .srcfix+ .lsrcfix .lsrcfix+ .srcnoisy",
        "is about source servers, which kd does not ask; .srcpath names folders",
    ),
    (".locale", "has nothing to do here: kd reads and writes UTF-8 everywhere"),
    (".dbgdbg", "starts a debugger on the debugger; do that with the system's own means"),
    (".fpo", "overrides how frames are found; kd takes that from symbols and images only"),
    (".fnret .typeopt .hideinjectedcode", "needs types of functions that no public symbols hold"),
    (
        ".allow_image_mapping",
        "has nothing to do here: images are read where the dump lacks memory and .exepath finds them",
    ),
    (".copysym", "copies symbol files; cache*FOLDER in front of .sympath does that as they are loaded"),
    ("dtx", "is not in kd; dx and dt show objects"),
    ("ur", "shows 16-bit code of a BIOS, which no kernel dump has"),
];

/// Why a word of KD's is not a command here, if it is one of KD's.
pub fn why_not(word: &str) -> Option<String> {
    let is = |words: &str| words.split_whitespace().any(|known| known == word);
    let (_, why) = ABSENT.iter().find(|(words, _)| is(words))?;
    Some(format!("'{word}' {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_is_no_command() {
        for (words, _) in ABSENT {
            for word in words.split_whitespace() {
                let found = crate::commands::rows().find(|row| row.names.contains(&word));
                assert!(found.is_none(), "{word} is a command");
            }
        }
        let why = why_not(".hh").unwrap();
        assert!(why.starts_with("'.hh' is about WinDbg's windows"), "{why}");
        assert_eq!(why_not(".nonsense"), None);
    }
}
