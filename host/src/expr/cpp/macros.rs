//! The macros of the C++ evaluator: `#FIELD_OFFSET` and its relatives, with the meaning Windows' headers give them.

use super::{Home, Outcome, Parser, TypedValue};
use crate::expr::ExprError;
use crate::symbols::Field;
use crate::typed::{self, Type};

impl<'t> Parser<'t, '_> {
    /// `#NAME(arguments)` at the cursor.
    pub(super) fn macro_call(&mut self) -> Outcome<TypedValue> {
        let start = self.cursor;
        self.cursor.advance(1);
        let name = self.cursor.take_while(|c, _| c.is_ascii_alphanumeric() || c == '_');
        if !self.cursor.eat("(") {
            return Err(self.syntax());
        }
        let value = match name {
            "FIELD_OFFSET" => {
                let (_, field) = self.type_and_field()?;
                TypedValue::number_of(&typed::LONG, field.offset)
            }
            "RTL_FIELD_SIZE" => {
                let (_, field) = self.type_and_field()?;
                TypedValue::number_of(self.size_type(), field.size)
            }
            "RTL_SIZEOF_THROUGH_FIELD" => {
                let (_, field) = self.type_and_field()?;
                TypedValue::number_of(self.size_type(), field.offset.wrapping_add(field.size))
            }
            "RTL_NUMBER_OF_FIELD" => {
                let (_, field) = self.type_and_field()?;
                TypedValue::number_of(self.size_type(), field.count)
            }
            "RTL_NUMBER_OF" => {
                let value = self.skipping_if(true, Parser::assignment)?;
                match value.ty {
                    Type::Array(_, count) => TypedValue::number_of(self.size_type(), count),
                    ty => return Err(ExprError::Conflict { what: format!("{} is no array", ty.name()) }),
                }
            }
            "CONTAINING_RECORD" => {
                let address = self.assignment()?.number(self)?;
                self.comma()?;
                let (ty, field) = self.type_and_field()?;
                TypedValue {
                    ty: ty.pointer(self.context.pointer_size().into()),
                    home: Home::Number(address.wrapping_sub(field.offset)),
                }
            }
            "RTL_CONTAINS_FIELD" => {
                let place = self.skipping_if(true, Parser::assignment)?;
                self.comma()?;
                let size = self.assignment()?.number(self)?;
                self.comma()?;
                let ty = place.ty.element().cloned().unwrap_or(place.ty);
                let field = self.field_of(&ty)?;
                TypedValue::truth_value(field.offset.saturating_add(field.size) <= size)
            }
            _ => {
                return Err(ExprError::Syntax { rest: start.rest().to_owned() });
            }
        };
        if self.cursor.eat(")") { Ok(value) } else { Err(self.syntax()) }
    }

    fn comma(&mut self) -> Outcome<()> {
        if self.cursor.eat(",") { Ok(()) } else { Err(self.syntax()) }
    }

    fn type_and_field(&mut self) -> Outcome<(Type, Field)> {
        let Some(ty) = self.type_name()? else {
            let name = self.cursor.skip_blanks().split([',', ')']).next().unwrap_or_default();
            return Err(ExprError::Type {
                name: name.trim().to_owned(),
                why: "there is no such type".to_owned(),
            });
        };
        self.comma()?;
        let field = self.field_of(&ty)?;
        Ok((ty, field))
    }

    /// The field at the cursor, which may be a path: `Tcb.Header`.
    fn field_of(&mut self, ty: &Type) -> Outcome<Field> {
        self.cursor.skip_blanks();
        let path = self.cursor.take_while(|c, _| c != ',' && c != ')').trim_end();
        let found = match ty {
            Type::Named(types, id) => types.field(*id, path),
            _ => None,
        };
        found.ok_or_else(|| ExprError::Member { of: ty.name(), name: path.to_owned() })
    }
}
