//! Stacked tables become one decision graph: tests of 32-bit words at the inner nodes, actions at the leaves.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::rule::{Action, Comparison, Condition, Rule, Table, Width};
use super::x86_64::X32;

/// Paths are as many as two to the power of shared tests; past so many steps a graph stays as it is, which is longer but right.
const SIMPLIFY_STEPS: u32 = 10_000;

/// What a kernel without x32 says of its calls (errno(3)).
const ENOSYS: u16 = 38;

/// Identifies a node of a [`Graph`]; equal subgraphs have equal identities.
pub type Id = usize;

/// Half of an argument: `2 * argument` is its low word, one more its high word.
pub type Word = u8;

/// A test of one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Test {
    pub word: Word,
    pub relation: Relation,
    pub value: u32,
}

/// How a word is compared; the other relations are these with their branches exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Relation {
    Eq,
    Gt,
    Ge,
    MaskedEq(u32),
}

impl Test {
    fn holds(self, word: u32) -> bool {
        match self.relation {
            Relation::Eq => word == self.value,
            Relation::Gt => word > self.value,
            Relation::Ge => word >= self.value,
            Relation::MaskedEq(mask) => word & mask == self.value,
        }
    }

    /// Whether the answers to earlier tests already decide this one.
    fn decided_by(self, known: &[(Test, bool)]) -> Option<bool> {
        for &(earlier, held) in known
            .iter()
            .filter(|(earlier, _)| earlier.word == self.word)
        {
            if earlier == self {
                return Some(held);
            }
            if earlier.relation == Relation::Eq && held {
                return Some(self.holds(earlier.value));
            }
            if self.relation == Relation::Eq && earlier.holds(self.value) != held {
                return Some(false);
            }
        }
        None
    }
}

/// A node: what happens, or a test and where it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Node {
    Leaf(Action),
    Branch { test: Test, yes: Id, no: Id },
}

/// What happens, for every system call number.
pub struct Decision {
    pub graph: Graph,
    /// The node of each number that a table names.
    pub numbers: BTreeMap<u32, Id>,
    /// The node of all other numbers.
    pub rest: Id,
    /// The node of x32 calls: refused, whatever the tables serve.
    pub x32: Id,
}

impl Decision {
    /// One decision for tables that the kernel would have been given one after another, the first as the oldest.
    pub fn of(tables: &[Table]) -> Self {
        let mut graph = Graph::default();
        let mut rest = graph.leaf(Action::Allow);
        let mut numbers: BTreeMap<u32, Id> = tables
            .iter()
            .flat_map(|table| table.rules.range(..X32))
            .map(|(number, _)| number)
            .map(|number| (*number, rest))
            .collect();
        for table in tables {
            let default = graph.leaf(table.default);
            rest = graph.stack(rest, default);
            for (number, id) in &mut numbers {
                let newer = match table.rules.get(number) {
                    Some(rules) => graph.rules(rules, default),
                    None => default,
                };
                *id = graph.stack(*id, newer);
            }
        }
        for id in numbers.values_mut() {
            let mut steps = SIMPLIFY_STEPS;
            let simpler = graph.simplify(*id, &mut Vec::new(), &mut steps);
            // Where each way to a shared test has decided something else, it is shared no more.
            if graph.size(simpler) <= graph.size(*id) {
                *id = simpler;
            }
        }
        let refused = graph.leaf(Action::Errno(ENOSYS));
        let x32 = graph.stack(refused, rest);
        Self {
            graph,
            numbers,
            rest,
            x32,
        }
    }
}

/// Nodes, each kept once.
#[derive(Default)]
pub struct Graph {
    nodes: Vec<Node>,
    ids: HashMap<Node, Id>,
    stacked: HashMap<(Id, Id), Id>,
}

impl Graph {
    pub fn node(&self, id: Id) -> Node {
        self.nodes[id]
    }

    fn intern(&mut self, node: Node) -> Id {
        *self.ids.entry(node).or_insert_with(|| {
            self.nodes.push(node);
            self.nodes.len() - 1
        })
    }

    fn leaf(&mut self, action: Action) -> Id {
        self.intern(Node::Leaf(action))
    }

    fn branch(&mut self, test: Test, yes: Id, no: Id) -> Id {
        if yes == no {
            yes
        } else {
            self.intern(Node::Branch { test, yes, no })
        }
    }

    /// The first rule that holds decides, else `default`.
    fn rules(&mut self, rules: &[Rule], default: Id) -> Id {
        rules.iter().rev().fold(default, |otherwise, rule| {
            let action = self.leaf(rule.action);
            rule.conditions
                .iter()
                .rev()
                .fold(action, |then, condition| {
                    self.condition(*condition, then, otherwise)
                })
        })
    }

    /// A condition in terms of words.
    fn condition(&mut self, condition: Condition, yes: Id, no: Id) -> Id {
        match condition.comparison {
            Comparison::Eq => self.equal(condition, None, yes, no),
            Comparison::Ne => self.equal(condition, None, no, yes),
            Comparison::MaskedEq(mask) => self.equal(condition, Some(mask), yes, no),
            Comparison::Gt => self.greater(condition, Relation::Gt, yes, no),
            Comparison::Ge => self.greater(condition, Relation::Ge, yes, no),
            Comparison::Lt => self.greater(condition, Relation::Ge, no, yes),
            Comparison::Le => self.greater(condition, Relation::Gt, no, yes),
        }
    }

    fn equal(&mut self, condition: Condition, mask: Option<u64>, yes: Id, no: Id) -> Id {
        let mask = mask.unwrap_or(u64::MAX);
        let (value_high, value_low) = halves(condition.value);
        let (mask_high, mask_low) = halves(mask);
        let low = 2 * condition.argument;
        let matched = self.word_equal(low, mask_low, value_low, yes, no);
        match condition.width {
            Width::Dword => matched,
            Width::Qword => self.word_equal(low + 1, mask_high, value_high, matched, no),
        }
    }

    fn word_equal(&mut self, word: Word, mask: u32, value: u32, yes: Id, no: Id) -> Id {
        let relation = match mask {
            // A value outside the mask can never be met.
            _ if value & !mask != 0 => return no,
            0 => return yes,
            u32::MAX => Relation::Eq,
            mask => Relation::MaskedEq(mask),
        };
        self.branch(
            Test {
                word,
                relation,
                value,
            },
            yes,
            no,
        )
    }

    fn greater(&mut self, condition: Condition, relation: Relation, yes: Id, no: Id) -> Id {
        let (high, low) = halves(condition.value);
        let word = 2 * condition.argument;
        let tail = self.branch(
            Test {
                word,
                relation,
                value: low,
            },
            yes,
            no,
        );
        match condition.width {
            Width::Dword => tail,
            Width::Qword => {
                let equal = self.branch(
                    Test {
                        word: word + 1,
                        relation: Relation::Eq,
                        value: high,
                    },
                    tail,
                    no,
                );
                self.branch(
                    Test {
                        word: word + 1,
                        relation: Relation::Gt,
                        value: high,
                    },
                    yes,
                    equal,
                )
            }
        }
    }

    /// Both decisions, stacked.
    fn stack(&mut self, older: Id, newer: Id) -> Id {
        // Nothing is less restrictive: most of most tables is this.
        if self.node(older) == Node::Leaf(Action::Allow) {
            return newer;
        }
        if self.node(newer) == Node::Leaf(Action::Allow) {
            return older;
        }
        if let Some(done) = self.stacked.get(&(older, newer)) {
            return *done;
        }
        let result = match (self.node(older), self.node(newer)) {
            (Node::Leaf(older), Node::Leaf(newer)) => self.leaf(older.stacked(newer)),
            (_, Node::Branch { test, yes, no }) => {
                let (yes, no) = (self.stack(older, yes), self.stack(older, no));
                self.branch(test, yes, no)
            }
            (Node::Branch { test, yes, no }, Node::Leaf(_)) => {
                let (yes, no) = (self.stack(yes, newer), self.stack(no, newer));
                self.branch(test, yes, no)
            }
        };
        self.stacked.insert((older, newer), result);
        result
    }

    /// How many nodes there are from `id` on.
    fn size(&self, id: Id) -> usize {
        let mut seen = HashSet::from([id]);
        let mut left = vec![id];
        while let Some(id) = left.pop() {
            if let Node::Branch { yes, no, .. } = self.node(id) {
                left.extend([yes, no].into_iter().filter(|next| seen.insert(*next)));
            }
        }
        seen.len()
    }

    /// Without the tests that earlier ones on the way have decided.
    fn simplify(&mut self, id: Id, known: &mut Vec<(Test, bool)>, steps: &mut u32) -> Id {
        let Node::Branch { test, yes, no } = self.node(id) else {
            return id;
        };
        let Some(left) = steps.checked_sub(1) else {
            return id;
        };
        *steps = left;
        if let Some(held) = test.decided_by(known) {
            return self.simplify(if held { yes } else { no }, known, steps);
        }
        known.push((test, true));
        let yes = self.simplify(yes, known, steps);
        known.last_mut().expect("pushed above").1 = false;
        let no = self.simplify(no, known, steps);
        known.pop();
        self.branch(test, yes, no)
    }
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "taking halves is the point"
)]
fn halves(value: u64) -> (u32, u32) {
    ((value >> 32) as u32, value as u32)
}
