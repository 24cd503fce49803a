use superduper::prelude::*;

#[derive(Component)]
#[allow(non_camel_case_types)]
struct r#match {
    identifier: String,
    r#type: String,
    r#fn: Option<String>,
    r#loop: Output<i64>,
}

#[triggers]
impl r#match {
    #[trigger("apply", requires = "fn", watch = "type")]
    fn r#move(&self) -> Result<i64> {
        Ok(1)
    }

    #[trigger("apply", depends_on = "move")]
    async fn r#use(&self, r#move: i64) -> Result<i64> {
        Ok(r#move)
    }
}

#[callable]
fn r#yield(r#in: i64) -> Result<i64> {
    Ok(r#in)
}

fn main() {
    let component = r#match::builder("x").r#type("a").build().unwrap();
    let text = superduper::Value::to_string(&superduper::json!(component.__spec().fields.iter().map(|field| field.key).collect::<Vec<_>>()));
    assert_eq!(text, r#"["identifier","type","fn"]"#);
    assert_eq!(component.__trigger_specs()[0].name, "move");
    assert_eq!(component.__unmet("move"), ["fn"]);
    assert_eq!(Callable::of::<r#yield>().params()[0].name, "in");
    assert!(component.kind().ends_with(".match"));
}
