//! Things by handle. Handles are never used twice: one that outlived its table is a bug and found as such.

/// Things of one kind, numbered as they come.
pub(super) struct Table<T> {
    what: &'static str,
    first: u32,
    things: Vec<T>,
}

impl<T> Table<T> {
    /// Empty.
    pub(super) const fn new(what: &'static str) -> Self {
        Table { what, first: 0, things: Vec::new() }
    }

    /// Takes a thing in and answers its handle.
    pub(super) fn add(&mut self, thing: T) -> u32 {
        let id = self.first + self.things.len() as u32;
        self.things.push(thing);
        id
    }

    /// The thing with this handle.
    pub(super) fn get(&self, id: u32) -> &T {
        let found = id.checked_sub(self.first).and_then(|index| self.things.get(index as usize));
        found.unwrap_or_else(|| panic!("Invariant: {} {id} was made and not given back", self.what))
    }

    /// The same, to change it.
    pub(super) fn get_mut(&mut self, id: u32) -> &mut T {
        let (what, found) = (self.what, id.checked_sub(self.first));
        let found = found.and_then(|index| self.things.get_mut(index as usize));
        found.unwrap_or_else(|| panic!("Invariant: {what} {id} was made and not given back"))
    }

    /// Everything, handle or not.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.things.iter_mut()
    }

    /// Takes everything out; the handles mean nothing from here on.
    pub(super) fn drain(&mut self) -> Vec<T> {
        self.first += self.things.len() as u32;
        std::mem::take(&mut self.things)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_count_on_after_a_table_was_emptied() {
        let mut table = Table::new("thing");
        assert_eq!((table.add('a'), table.add('b')), (0, 1));
        assert_eq!(table.drain(), ['a', 'b']);
        assert_eq!((table.add('c'), *table.get(2)), (2, 'c'));
    }

    #[test]
    #[should_panic(expected = "Invariant: thing 0 was made and not given back")]
    fn a_handle_that_outlived_its_table_is_found() {
        let mut table = Table::new("thing");
        table.add('a');
        table.drain();
        table.add('b');
        table.get(0);
    }
}
