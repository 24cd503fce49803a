#![allow(unused_variables, dead_code, non_camel_case_types)]
// In programs it is `#[superduper::main]`.
mod arguments {
    #[superduper_derive::main(threads = 2)]
    async fn main() {}
}

mod sync {
    #[superduper_derive::main]
    fn main() {}
}

mod parameters {
    #[superduper_derive::main]
    async fn main(arguments: Vec<String>) {}
}

#[superduper_derive::main]
struct NotAFunction;

fn main() {}
