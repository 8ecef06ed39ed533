//! The services for symbols, types and expressions.

#![allow(unsafe_code)]

use super::*;
use crate::expr::{Evaluated, Home};
use crate::typed::Type;

table!(SYMBOLS, SymbolService, SymbolV1 { at, by_name, each });

unsafe extern "C" fn at(ctx: Ctx, va: u64, sink: abi::SymbolSink) -> i32 {
    // SAFETY: as above; the sink is the extension's.
    unsafe {
        guard(ctx, |bridge| {
            let hit = bridge.scope.name_of(Va(va)).ok_or_else(|| not_found("no module there"))?;
            let symbol = abi::SymbolInfo {
                module: RStr::from_str(&hit.module_name),
                name: RStr::from_str(&hit.name),
                displacement: hit.displacement,
                address: hit.address.0,
            };
            (sink.visit)(sink.ctx, &symbol);
            Ok(())
        })
    }
}

unsafe extern "C" fn by_name(ctx: Ctx, name: RStr<'_>, va: *mut u64) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let open = bridge.open()?;
            put(va, open.symbols.find(&open.target, &said(name)?)?.0)
        })
    }
}

unsafe extern "C" fn each(ctx: Ctx, pattern: RStr<'_>, sink: abi::SymbolSink) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let open = bridge.open()?;
            open.symbols.each(&open.target, &said(pattern)?, &mut |named| {
                let symbol = abi::SymbolInfo {
                    module: RStr::from_str(named.module_name),
                    name: RStr::from_str(named.name),
                    displacement: 0,
                    address: named.address.0,
                };
                match (sink.visit)(sink.ctx, &symbol) {
                    0 => ControlFlow::Continue(()),
                    _ => ControlFlow::Break(()),
                }
            })?;
            Ok(())
        })
    }
}

table!(TYPES, TypeService, TypeV1 { lookup, field, fields, name, enum_name });

unsafe extern "C" fn lookup(ctx: Ctx, name: RStr<'_>, found: *mut abi::TypeRef) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let open = bridge.open()?;
            let (types, id) = open.symbols.find_type(&open.target, &said(name)?)?;
            put(found, bridge.keep_type(types, id))
        })
    }
}

unsafe extern "C" fn field(ctx: Ctx, id: u64, path: RStr<'_>, place: *mut abi::FieldInfo) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let (types, id) = bridge.type_of(id)?;
            let field = types.field(id, &said(path)?).ok_or_else(|| not_found("no such field"))?;
            put(place, bridge.field_info(&types, &field))
        })
    }
}

unsafe extern "C" fn fields(ctx: Ctx, id: u64, sink: abi::FieldSink) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let (types, id) = bridge.type_of(id)?;
            for field in types.fields(id).iter() {
                let info = bridge.field_info(&types, field);
                if (sink.visit)(sink.ctx, RStr::from_str(&field.name), &info) != 0 {
                    break;
                }
            }
            Ok(())
        })
    }
}

unsafe extern "C" fn name(ctx: Ctx, id: u64, sink: abi::TextSink) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let (types, id) = bridge.type_of(id)?;
            tell(sink, &types.name(id));
            Ok(())
        })
    }
}

unsafe extern "C" fn enum_name(ctx: Ctx, id: u64, value: i64, sink: abi::TextSink) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let (types, id) = bridge.type_of(id)?;
            let found = types.enum_name(id, value).ok_or_else(|| not_found("no name for this value"))?;
            tell(sink, &found);
            Ok(())
        })
    }
}

table!(EXPRESSIONS, ExpressionService, ExpressionV1 { evaluate, typed });

unsafe extern "C" fn evaluate(ctx: Ctx, text: RStr<'_>, value: *mut u64) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let found = bridge.scope.evaluate(&said(text)?);
            put(value, found.map_err(|error| Failure(status::INVALID, error.to_string()))?)
        })
    }
}

unsafe extern "C" fn typed(ctx: Ctx, text: RStr<'_>, value: *mut abi::TypedInfo) -> i32 {
    // SAFETY: as above.
    unsafe {
        guard(ctx, |bridge| {
            let found = bridge.scope.evaluate_typed(&said(text)?)?;
            put(value, typed_info(bridge, &found)?)
        })
    }
}

fn typed_info(bridge: &Bridge, found: &Evaluated) -> Result<abi::TypedInfo, Failure> {
    let of = &found.value.ty;
    let address = match found.value.home {
        Home::Memory { va, .. } => va.0,
        _ => 0,
    };
    let value = if of.is_struct() {
        address
    } else {
        found.number(&bridge.scope).map_err(|error| Failure(status::INVALID, error.to_string()))?
    };
    let kind = match of {
        Type::Scalar(scalar) => scalar.kind,
        Type::Named(types, id) => types.kind(*id),
        Type::Pointer(..) => Kind::Pointer,
        Type::Array(..) => Kind::Array,
    };
    let named = match of.element().unwrap_or(of) {
        Type::Named(types, id) => bridge.keep_type(Arc::clone(types), *id),
        _ => abi::TypeRef::default(),
    };
    Ok(abi::TypedInfo { value, address, of: named, size: of.size(), kind: kind_number(kind), reserved: 0 })
}
