//! The compiled program says what the rules say, for whatever rules.
#![allow(clippy::cast_possible_truncation, reason = "words of arguments")]

mod interpreter;

use interpreter::{Call, Random, naive, run};
use palisade_policies::Error;
use palisade_policies::seccomp::{
    Action, Comparison, Condition, MOST_INSTRUCTIONS, Rule, Table, Width, compile, x86_64,
};

const ACTIONS: [Action; 9] = [
    Action::Allow,
    Action::Allow,
    Action::Errno(1),
    Action::Errno(38),
    Action::Trap,
    Action::Trace(7),
    Action::Log,
    Action::KillThread,
    Action::KillProcess,
];

/// Values that share halves with each other.
const VALUES: [u64; 12] = [
    0,
    1,
    2,
    3,
    16,
    0x7e02_0000,
    0xffff_ffff,
    1 << 32,
    (1 << 32) + 2,
    3 << 32,
    u64::MAX,
    0xffff_fff0_0000_0002,
];

fn random_condition(random: &mut Random) -> Condition {
    let mask = random.pick(&[0, 1, 0xf, 0x7e02_0000, 0xffff_ffff, 0xf_0000_0003, u64::MAX]);
    let comparison = random.pick(&[
        Comparison::Eq,
        Comparison::Eq,
        Comparison::Ne,
        Comparison::Lt,
        Comparison::Le,
        Comparison::Gt,
        Comparison::Ge,
        Comparison::MaskedEq(mask),
    ]);
    let value = random.pick(&VALUES);
    Condition {
        argument: random.below(3) as u8,
        width: random.pick(&[Width::Dword, Width::Qword]),
        comparison,
        value,
    }
}

fn random_table(random: &mut Random, calls: u64, most_number: u64) -> Table {
    let mut table = Table::new(random.pick(&ACTIONS));
    for _ in 0..calls {
        let number = random.below(most_number) as u32;
        for _ in 0..=random.below(3) {
            let conditions = (0..random.below(4))
                .map(|_| random_condition(random))
                .collect();
            table.push(
                number,
                Rule {
                    conditions,
                    action: random.pick(&ACTIONS),
                },
            );
        }
    }
    table
}

/// Numbers at and around every rule, and calls with arguments at and around every value.
fn check(tables: &[Table], random: &mut Random, samples: u64) {
    let program = compile(tables, "a random profile").expect("it fits").0;
    let numbers: Vec<u32> = tables
        .iter()
        .flat_map(|table| table.rules.keys().copied())
        .collect();
    for _ in 0..samples {
        let number = match random.below(8) {
            0 => random.next() as u32,
            1 => x86_64::X32 | random.below(600) as u32,
            2 => random.below(600) as u32,
            _ if numbers.is_empty() => 0,
            _ => random
                .pick(&numbers)
                .wrapping_add(random.pick(&[0, 0, 0, 1, u32::MAX])),
        };
        let mut arguments = [0; 6];
        for argument in &mut arguments {
            *argument =
                random
                    .pick(&VALUES)
                    .wrapping_add(random.pick(&[0, 0, 0, 1, u64::MAX, 1 << 32]));
        }
        let mut call = Call::native(number, arguments);
        if random.below(20) == 0 {
            call.arch = random.pick(&[0x4000_0003, 0xc000_00b7, 0]);
        }
        assert_eq!(
            run(&program, &call).0,
            naive(tables, &call).value(),
            "{call:x?} of {tables:x?}"
        );
    }
}

#[test]
fn random_profiles_say_what_their_rules_say() {
    let mut random = Random(0x0070_616c_6973_6164);
    for round in 0..400 {
        let tables: Vec<_> = (0..=random.below(3))
            .map(|_| random_table(&mut random, 1 + round % 40, 500))
            .collect();
        check(&tables, &mut random, 400);
    }
}

#[test]
fn profiles_of_thousands_of_instructions_jump_as_far_as_they_must() {
    let mut random = Random(42);
    for _ in 0..6 {
        let table = random_table(&mut random, 400, 470);
        let length = compile(std::slice::from_ref(&table), "large")
            .expect("it fits")
            .0
            .len();
        assert!(length > 1000, "{length} instructions need no far jump");
        check(&[table], &mut random, 20_000);
    }
}

#[test]
fn many_rules_of_two_conditions_stay_as_long_as_they_are_many() {
    let mut table = Table::new(Action::Errno(1));
    for pair in 0..200 {
        let conditions = vec![
            Condition::int(0, Comparison::Eq, pair % 20),
            Condition::int(1, Comparison::MaskedEq(0xff), pair),
        ];
        table.push(
            5,
            Rule {
                conditions,
                action: Action::Allow,
            },
        );
    }
    let length = compile(std::slice::from_ref(&table), "pairs")
        .expect("it fits")
        .0
        .len();
    assert!(length < 900, "{length} instructions");
    check(&[table], &mut Random(9), 5000);
}

#[test]
fn scattered_calls_with_many_outcomes_stay_reachable() {
    let mut table = Table::new(Action::Errno(38));
    for number in 0..470 {
        table.push(
            number,
            Rule::always(Action::Errno((number % 300) as u16 + 1)),
        );
    }
    let program = compile(std::slice::from_ref(&table), "scattered")
        .expect("it fits")
        .0;
    for number in 0..600 {
        let call = Call::native(number, [0; 6]);
        assert_eq!(
            run(&program, &call).0,
            naive(std::slice::from_ref(&table), &call).value(),
            "{number}"
        );
    }
}

#[test]
fn no_tables_serve_everything_but_foreign_and_x32_calls() {
    let program = compile(&[], "nothing").expect("it fits").0;
    assert_eq!(
        run(&program, &Call::native(0, [0; 6])).0,
        Action::Allow.value()
    );
    assert_eq!(
        run(&program, &Call::native(x86_64::X32, [0; 6])).0,
        Action::Errno(38).value()
    );
    let foreign = Call {
        number: 0,
        arch: 0x4000_0003,
        arguments: [0; 6],
    };
    assert_eq!(run(&program, &foreign).0, Action::KillProcess.value());
}

#[test]
fn a_program_that_the_kernel_would_refuse_is_an_error() {
    let mut table = Table::new(Action::Allow);
    for number in 0..400 {
        for value in 0..20 {
            let condition = Condition::int(0, Comparison::Eq, value * 1000 + number);
            table.push(
                number,
                Rule {
                    conditions: vec![condition],
                    action: Action::Errno(1),
                },
            );
        }
    }
    let error = compile(&[table], "huge.json").expect_err("8000 comparisons do not fit");
    assert!(
        matches!(&error, Error::ProgramTooLong { origin, length } if origin == "huge.json" && *length > MOST_INSTRUCTIONS)
    );
}

#[test]
fn on_a_tie_the_newest_errno_wins() {
    let table = |errno| {
        let mut table = Table::new(Action::Allow);
        table.push(3, Rule::always(Action::Errno(errno)));
        table
    };
    let program = compile(&[table(1), table(93)], "two").expect("it fits").0;
    assert_eq!(
        run(&program, &Call::native(3, [0; 6])).0,
        Action::Errno(93).value()
    );
}
