//! What names mean: types, symbols, registers, names of enumerations.

use super::{Home, Outcome, Parser, TypedValue};
use crate::expr::ExprError;
use crate::symbols::{Kind, Pattern};
use crate::typed::{self, Type};
use kd_sdk::address::Va;
use std::ops::ControlFlow;

/// Words that together make a built-in type's name.
const TYPE_WORDS: [&str; 13] = [
    "unsigned", "signed", "long", "short", "int", "char", "double", "float", "bool", "void", "__int64",
    "__int32", "wchar_t",
];

/// Pseudo-registers with a type of their own: the structure they point to.
const TYPED_REGISTERS: [(&str, &str); 4] =
    [("$proc", "nt!_EPROCESS"), ("$thread", "nt!_ETHREAD"), ("$peb", "nt!_PEB"), ("$teb", "nt!_TEB")];

impl<'t> Parser<'t, '_> {
    /// `name`, `module!name`, `module!A::b`.
    fn path(&mut self) -> &'t str {
        self.cursor.skip_blanks();
        self.cursor.take_while(|c, rest| match c {
            '!' => !rest.starts_with("!="),
            ':' => true,
            _ => c.is_alphanumeric() || c == '_' || c == '$',
        })
    }

    /// A type at the cursor that is followed by what may follow one; `None`, and nothing read, if it is none.
    pub(super) fn type_name(&mut self) -> Outcome<Option<Type>> {
        let start = self.cursor;
        let found = self.type_name_here()?;
        if found.is_none() {
            self.cursor = start;
        }
        Ok(found)
    }

    fn type_name_here(&mut self) -> Outcome<Option<Type>> {
        let mut words: Vec<&'t str> = Vec::new();
        let mut tagged = false;
        loop {
            let before = self.cursor;
            let word = self.path();
            match word {
                "const" | "volatile" => {}
                "struct" | "union" | "enum" | "class" => tagged = true,
                "" => break,
                word if TYPE_WORDS.contains(&word) => words.push(word),
                word if words.is_empty() => {
                    words.push(word);
                    break;
                }
                _ => {
                    self.cursor = before;
                    break;
                }
            }
        }
        let mut stars = 0;
        loop {
            if self.cursor.eat("*") {
                stars += 1;
            } else if self.cursor.skip_blanks().starts_with("const") {
                self.path();
            } else {
                break;
            }
        }
        if words.is_empty() || stars > 8 || !self.cursor.skip_blanks().starts_with([')', ',', '>']) {
            return Ok(None);
        }
        let mut name = words.join(" ");
        if let Some(rest) = name.strip_suffix(" unsigned") {
            name = format!("unsigned {rest}");
        }
        let pointer_size = self.context.pointer_size();
        let base = match typed::scalar_named(&name, pointer_size).filter(|_| !tagged) {
            Some(scalar) => Type::Scalar(scalar),
            None => match self.find_type(&name) {
                Ok(found) => found,
                Err(error) if tagged || stars > 0 => return Err(error),
                Err(_) => return Ok(None),
            },
        };
        Ok(Some((0..stars).fold(base, |ty, _| ty.pointer(pointer_size.into()))))
    }

    /// A structure, union or enumeration by name.
    pub(super) fn find_type(&self, name: &str) -> Outcome<Type> {
        match self.context.find_type(name) {
            Ok((types, id)) => Ok(Type::of(&types, id)),
            Err(why) => Err(ExprError::Type { name: name.to_owned(), why }),
        }
    }

    /// What a word means: an operator, a symbol, a name of an enumeration.
    pub(super) fn name(&mut self) -> Outcome<TypedValue> {
        let start = self.cursor;
        let name = self.path();
        match name {
            "" => return Err(self.syntax()),
            "sizeof" => return self.size_of(),
            "true" => return Ok(TypedValue::truth_value(true)),
            "false" => return Ok(TypedValue::truth_value(false)),
            "static_cast" | "reinterpret_cast" | "const_cast" | "dynamic_cast" => return self.named_cast(),
            "new" | "delete" | "throw" | "this" | "typeid" => {
                return Err(ExprError::Unsupported {
                    what: format!("'{name}' is not available in expressions"),
                });
            }
            _ => {}
        }
        if let Some(value) = self.enumerator(name) {
            return Ok(value);
        }
        if let Some(address) = self.context.symbol(name.trim_start_matches('!')) {
            let home = Home::Memory { va: Va(address), bits: None };
            return Ok(TypedValue { ty: Type::Scalar(&typed::NO_TYPE), home });
        }
        if let Some(value) = self.any_enumerator(name) {
            return Ok(value);
        }
        self.cursor = start;
        self.path();
        Err(ExprError::Unresolved { name: name.to_owned() })
    }

    /// `_KWAIT_REASON::WrQueue`.
    fn enumerator(&self, path: &str) -> Option<TypedValue> {
        let (ty, name) = path.rsplit_once("::")?;
        let (types, id) = self.context.find_type(ty).ok()?;
        let value = types.enum_value(id, name)?;
        Some(TypedValue { ty: Type::of(&types, id), home: Home::Number(value as u64) })
    }

    /// `WrQueue`, `nt!WrQueue`: looked for in every enumeration of the module.
    fn any_enumerator(&self, path: &str) -> Option<TypedValue> {
        let (module, name) = path.split_once('!').unwrap_or(("nt", path));
        // Any type leads to its module's types.
        let (types, _) = self.context.find_type(&format!("{module}!_LIST_ENTRY")).ok()?;
        let mut found = None;
        types.each(&Pattern::parse("*").ok()?, &mut |_, id| {
            let value = (types.kind(id) == Kind::Enum)
                .then(|| {
                    types.enum_values(id).iter().find(|known| &*known.name == name).map(|known| known.value)
                })
                .flatten();
            match value {
                Some(value) => {
                    found = Some((id, value));
                    ControlFlow::Break(())
                }
                None => ControlFlow::Continue(()),
            }
        });
        let (id, value) = found?;
        Some(TypedValue { ty: Type::of(&types, id), home: Home::Number(value as u64) })
    }

    /// `sizeof(type)`, `sizeof(value)`, `sizeof value`.
    fn size_of(&mut self) -> Outcome<TypedValue> {
        let ty = match self.cursor.skip_blanks().starts_with('(') {
            true => self.cast_type()?,
            false => None,
        };
        let size = match ty {
            Some(ty) => ty.size(),
            None => {
                let value = self.skipping_if(true, Parser::unary)?;
                match value.ty {
                    Type::Scalar(scalar) if scalar == &typed::NO_TYPE => {
                        return Err(ExprError::NoType { name: "the operand of sizeof".to_owned() });
                    }
                    ty => ty.size(),
                }
            }
        };
        Ok(TypedValue::number_of(self.size_type(), size))
    }

    /// `size_t`.
    pub(super) fn size_type(&self) -> &'static typed::Scalar {
        if self.context.pointer_size() == 8 { &typed::UINT64 } else { &typed::UINT }
    }

    /// `static_cast<type>(value)` and its like.
    fn named_cast(&mut self) -> Outcome<TypedValue> {
        if !self.cursor.eat("<") {
            return Err(self.syntax());
        }
        let Some(ty) = self.type_name()? else { return Err(self.syntax()) };
        if !(self.cursor.eat(">") && self.cursor.eat("(")) {
            return Err(self.syntax());
        }
        let value = self.expression()?;
        if !self.cursor.eat(")") {
            return Err(self.syntax());
        }
        self.convert(&value, &ty)
    }

    /// A register with its type: addresses of code are `unsigned char *`, the known structures point to their type.
    pub(super) fn register(&mut self, name: &str) -> Outcome<TypedValue> {
        let assigned = self.assigned.iter().rev().find(|(known, _)| known == name).map(|(_, value)| *value);
        let Some(value) = assigned.or_else(|| self.context.register(name)) else {
            return Err(ExprError::Register { name: name.to_owned() });
        };
        if let Some(ty) = self.context.register_type(name) {
            return Ok(TypedValue { ty, home: Home::Register { name: name.to_owned(), value } });
        }
        let bytes = u64::from(self.context.pointer_size());
        let of = TYPED_REGISTERS.iter().find(|(known, _)| *known == name).map(|(_, of)| *of);
        let ty = match (of.and_then(|of| self.find_type(of).ok()), name) {
            (Some(of), _) => of.pointer(bytes),
            (None, "$ip" | "$ra" | "$exentry" | "$eventip" | "$scopeip") => {
                Type::Scalar(&typed::UCHAR).pointer(bytes)
            }
            (None, _) if bytes == 4 && !name.starts_with('$') => Type::Scalar(&typed::UINT),
            _ => Type::Scalar(&typed::UINT64),
        };
        Ok(TypedValue { ty, home: Home::Register { name: name.to_owned(), value } })
    }
}
