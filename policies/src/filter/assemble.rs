//! A decision graph becomes classic BPF: a search tree over system call numbers with argument tests at its leaves.
//!
//! The program is written from its end to its start. All jumps of classic BPF go forward, so every target is known when
//! a jump is written, and a jump that would be longer than eight bits gets a trampoline beside it at once.

use std::collections::HashMap;

use super::decision::{Decision, Graph, Id, Node, Relation, Test, Word};
use super::rule::Action;
use super::x86_64::{AUDIT_ARCH, X32};
use crate::program::Instruction;

// linux/bpf_common.h.
const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQ: u16 = 0x15;
const JUMP_GT: u16 = 0x25;
const JUMP_GE: u16 = 0x35;
const JUMP_SET: u16 = 0x45;
const RETURN: u16 = 0x06;

// Offsets in struct seccomp_data.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// Most numbers that are compared one after another at a leaf of the search tree.
const MOST_EXCEPTIONS: usize = 4;

/// The program for `decision`.
pub fn assemble(decision: &Decision) -> Vec<Instruction> {
    let mut writer = Writer {
        graph: &decision.graph,
        reversed: Vec::new(),
        tests: HashMap::new(),
        loads: HashMap::new(),
        returns: HashMap::new(),
    };
    let runs = Run::cover(&intervals(decision), &decision.graph);
    let root = writer.tree(&runs);
    writer.go_to(root);
    writer.push(LOAD, 0, 0, NUMBER);
    let native = writer.last();
    let foreign = writer.action(Action::KillProcess);
    writer.jump_if(JUMP_EQ, AUDIT_ARCH, native, foreign);
    writer.push(LOAD, 0, 0, ARCH);
    writer.reversed.reverse();
    writer.reversed
}

/// The numbers from `start` up to the next interval, which all lead to `node`.
#[derive(Clone, Copy, Debug)]
struct Interval {
    start: u32,
    node: Id,
}

/// All numbers, in order, neighbours leading to different nodes.
fn intervals(decision: &Decision) -> Vec<Interval> {
    let mut intervals: Vec<Interval> = vec![Interval {
        start: 0,
        node: decision.rest,
    }];
    let mut add = |start: u32, node: Id| {
        match intervals.last_mut() {
            Some(last) if last.start == start => last.node = node,
            _ => intervals.push(Interval { start, node }),
        }
        // What was just replaced or added may now continue the one before.
        if let [.., before, last] = intervals[..]
            && before.node == last.node
        {
            intervals.pop();
        }
    };
    for (number, node) in &decision.numbers {
        add(*number, *node);
        add(number + 1, decision.rest);
    }
    add(X32, decision.x32);
    intervals
}

/// Neighbouring intervals that are told apart by comparing single numbers: all lead to `node` but for the exceptions.
struct Run {
    start: u32,
    node: Id,
    exceptions: Vec<(u32, Id)>,
}

impl Run {
    /// The cheapest division of all intervals into runs: a run costs one comparison in the tree, an exception another.
    fn cover(intervals: &[Interval], graph: &Graph) -> Vec<Self> {
        // For the intervals before each index: what the best division costs, where its last run starts, to which node.
        let mut best = vec![(0, 0, 0)];
        for end in 1..=intervals.len() {
            let last_run = (end.saturating_sub(2 * MOST_EXCEPTIONS + 1)..end)
                .filter_map(|from| {
                    let (exceptions, node) = Self::fewest_exceptions(intervals, from, end)?;
                    Some((best[from].0 + 1 + exceptions, from, node))
                })
                .min_by_key(|(cost, from, _)| (*cost, end - from))
                .expect("one interval alone is a run");
            best.push(last_run);
        }
        let mut runs = Vec::new();
        let mut end = intervals.len();
        while end > 0 {
            let (_, from, node) = best[end];
            runs.push(Self::new(&intervals[from..end], node, graph));
            end = from;
        }
        runs.reverse();
        runs
    }

    /// To which node the intervals `from..end` lead as one run with as few exceptions as can be, and how many; none if
    /// an exception would be more than a single number.
    fn fewest_exceptions(intervals: &[Interval], from: usize, end: usize) -> Option<(usize, Id)> {
        let single = |index: usize| {
            intervals
                .get(index + 1)
                .is_some_and(|next| next.start == intervals[index].start + 1)
        };
        (from..end)
            .filter_map(|base| {
                let node = intervals[base].node;
                let mut exceptions = (from..end).filter(|index| intervals[*index].node != node);
                let count =
                    exceptions.try_fold(0, |count, index| single(index).then_some(count + 1))?;
                (count <= MOST_EXCEPTIONS).then_some((count, node))
            })
            .min_by_key(|(count, _)| *count)
    }

    fn new(intervals: &[Interval], node: Id, graph: &Graph) -> Self {
        let exceptions = intervals.iter().filter(|interval| interval.node != node);
        let mut exceptions: Vec<_> = exceptions
            .map(|interval| (interval.start, interval.node))
            .collect();
        // The kernel remembers calls that are served whatever their arguments: the others come first.
        exceptions.sort_by_key(|(_, node)| matches!(graph.node(*node), Node::Leaf(_)));
        Self {
            start: intervals[0].start,
            node,
            exceptions,
        }
    }

    /// How often the kernel runs the program for one of these numbers, roughly.
    fn weight(&self, graph: &Graph) -> u64 {
        let branches = |node: Id| u64::from(matches!(graph.node(node), Node::Branch { .. }));
        1 + 30
            * (branches(self.node)
                + self
                    .exceptions
                    .iter()
                    .map(|(_, node)| branches(*node))
                    .sum::<u64>())
    }
}

/// What the accumulator holds: a word of the arguments, as it is or masked.
type Accumulator = (Word, Option<u32>);

/// Writes instructions from the last to the first; a position counts from the end.
struct Writer<'a> {
    graph: &'a Graph,
    reversed: Vec<Instruction>,
    /// Where each test starts when the accumulator holds what it needs.
    tests: HashMap<Id, usize>,
    /// Where it starts otherwise.
    loads: HashMap<Id, usize>,
    /// The newest return of each value.
    returns: HashMap<u32, usize>,
}

impl Writer<'_> {
    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) {
        self.reversed.push(Instruction { code, jt, jf, k });
    }

    /// The position of the instruction written last.
    fn last(&self) -> usize {
        self.reversed.len() - 1
    }

    /// How many instructions lie between the one to be written next and `target`.
    fn distance(&self, target: usize) -> usize {
        self.last() - target
    }

    /// Makes `target` what follows.
    fn go_to(&mut self, target: usize) {
        let distance = self.distance(target);
        if distance > 0 {
            self.trampoline(target, distance);
        }
    }

    fn trampoline(&mut self, target: usize, distance: usize) {
        let end = self.reversed[target];
        if end.code == RETURN {
            // Returning here is as short as jumping there.
            self.reversed.push(end);
            self.returns.insert(end.k, self.last());
        } else {
            self.push(
                JUMP,
                0,
                0,
                u32::try_from(distance).expect("programs are short"),
            );
        }
    }

    fn jump_if(&mut self, code: u16, k: u32, mut yes: usize, mut no: usize) {
        loop {
            let (far_yes, far_no) = (self.distance(yes), self.distance(no));
            match (u8::try_from(far_yes), u8::try_from(far_no)) {
                (Ok(jt), Ok(jf)) => return self.push(code, jt, jf, k),
                (Err(_), _) => {
                    self.trampoline(yes, far_yes);
                    yes = self.last();
                }
                (_, Err(_)) => {
                    self.trampoline(no, far_no);
                    no = self.last();
                }
            }
        }
    }

    /// A return of `action` that a short jump reaches.
    fn action(&mut self, action: Action) -> usize {
        let value = action.value();
        match self.returns.get(&value) {
            // The margin is for the code between here and the jump.
            Some(position) if self.distance(*position) < 200 => *position,
            _ => {
                self.push(RETURN, 0, 0, value);
                self.returns.insert(value, self.last());
                self.last()
            }
        }
    }

    /// The search among `runs`, whose number is in the accumulator.
    fn tree(&mut self, runs: &[Run]) -> usize {
        if let [run] = runs {
            return self.run(run);
        }
        let middle = self.middle(runs);
        let (low, high) = runs.split_at(middle);
        let high = self.tree(high);
        let low = self.tree(low);
        self.jump_if(JUMP_GE, runs[middle].start, high, low);
        self.last()
    }

    /// Where to divide `runs` so that both sides weigh about the same.
    fn middle(&self, runs: &[Run]) -> usize {
        let weights: Vec<u64> = runs.iter().map(|run| run.weight(self.graph)).collect();
        let total: u64 = weights.iter().sum();
        let mut before = 0;
        (1..runs.len())
            .min_by_key(|index| {
                before += weights[index - 1];
                (2 * before).abs_diff(total)
            })
            .expect("two runs at least")
    }

    fn run(&mut self, run: &Run) -> usize {
        let mut next = self.node(run.node, None);
        for (number, node) in run.exceptions.iter().rev() {
            let target = self.node(*node, None);
            self.jump_if(JUMP_EQ, *number, target, next);
            next = self.last();
        }
        next
    }

    /// Where to go for node `id` while the accumulator is `holding` this.
    fn node(&mut self, id: Id, holding: Option<Accumulator>) -> usize {
        let (test, yes, no) = match self.graph.node(id) {
            Node::Leaf(action) => return self.action(action),
            Node::Branch { test, yes, no } => (test, yes, no),
        };
        let needs = Self::needs(test);
        let body = if let Some(body) = self.tests.get(&id) {
            *body
        } else {
            let no = self.node(no, Some(needs));
            let yes = self.node(yes, Some(needs));
            self.test(test, yes, no);
            self.tests.insert(id, self.last());
            self.last()
        };
        if holding == Some(needs) {
            return body;
        }
        if let Some(load) = self.loads.get(&id) {
            return *load;
        }
        self.go_to(body);
        if let (_, Some(mask)) = needs {
            self.push(AND, 0, 0, mask);
        }
        self.push(LOAD, 0, 0, ARGUMENTS + 4 * u32::from(test.word));
        self.loads.insert(id, self.last());
        self.last()
    }

    /// What the accumulator must hold for `test`.
    fn needs(test: Test) -> Accumulator {
        match test.relation {
            Relation::MaskedEq(mask) if test.value != 0 && !mask.is_power_of_two() => {
                (test.word, Some(mask))
            }
            _ => (test.word, None),
        }
    }

    fn test(&mut self, test: Test, yes: usize, no: usize) {
        match test.relation {
            Relation::MaskedEq(mask) if test.value == 0 => self.jump_if(JUMP_SET, mask, no, yes),
            Relation::MaskedEq(mask) if mask.is_power_of_two() => {
                self.jump_if(JUMP_SET, mask, yes, no);
            }
            Relation::Eq | Relation::MaskedEq(_) => self.jump_if(JUMP_EQ, test.value, yes, no),
            Relation::Gt => self.jump_if(JUMP_GT, test.value, yes, no),
            Relation::Ge => self.jump_if(JUMP_GE, test.value, yes, no),
        }
    }
}
