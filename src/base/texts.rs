//! Millions of short texts, stored in pages. A heap block for each text would cost more than the text.
//!
//! A page is written from its beginning to its end. A removed text leaves its bytes behind. When less
//! than half of a page is in use, the owner of the texts moves the rest to the page that is being
//! filled. Only the owner can do this, since only the owner knows who refers to the texts. So at least
//! half of the memory holds texts, except in one page, and no call moves more than a few pages.

use crate::base::heap::small_block_bytes;

/// Bytes of a page. Together with malloc's overhead they fill one page of the system.
const PAGE_BYTES: usize = 4096 - 16;

/// Places count in steps of this many bytes, so that 32 bits address 16 GiB.
const STEP_BYTES: usize = 4;

/// Steps of a page, as a power of two.
const PAGE_STEPS_LOG2: u32 = 10;

const _: () = assert!(PAGE_BYTES <= STEP_BYTES << PAGE_STEPS_LOG2, "each step of a page has a number");

/// The place of a text. It is valid until the text is removed or its page is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(u32);

impl Place {
    /// No text is here.
    pub const NONE: Place = Place(u32::MAX);
}

/// The stored texts.
#[derive(Debug, Default)]
pub struct Texts {
    pages: Vec<Page>,
    /// The page that new texts go to, if there is one.
    filling: Option<usize>,
    /// Pages without texts and without memory.
    free: Vec<usize>,
    /// Pages that are less than half in use.
    sparse: Vec<usize>,
    /// Bytes allocated for pages.
    bytes: usize,
}

#[derive(Debug, Default)]
struct Page {
    /// Texts, padded to whole steps. The character before a text is its length in bytes.
    content: String,
    /// Bytes of texts that are not removed.
    left_bytes: usize,
}

/// A page that was taken out, with every text that was ever inserted into it.
#[derive(Debug)]
pub struct TakenPage {
    number: usize,
    content: String,
}

impl Texts {
    /// Stores a text.
    ///
    /// # Panics
    /// If the text is longer than 55 295 bytes, or all texts are longer than 16 GiB.
    pub fn insert(&mut self, text: &str) -> Place {
        let length = u32::try_from(text.len()).ok().and_then(char::from_u32).expect("a text is short");
        let bytes = entry_bytes(text);
        let has_room = |page: &Page| page.content.len() + bytes <= PAGE_BYTES;
        let number = match self.filling.filter(|&number| has_room(&self.pages[number])) {
            Some(number) => number,
            None => self.open_page(bytes.max(PAGE_BYTES)),
        };
        let page = &mut self.pages[number];
        let step = page.content.len() / STEP_BYTES;
        let place = u32::try_from(number << PAGE_STEPS_LOG2 | step).expect("texts are far less than 16 GiB");
        let end = page.content.len() + bytes;
        page.content.push(length);
        page.content.push_str(text);
        page.content.extend(std::iter::repeat_n('\0', end - page.content.len()));
        page.left_bytes += bytes;
        Place(place)
    }

    /// The text at a place.
    ///
    /// # Panics
    /// If there is no text at this place.
    #[must_use]
    #[inline]
    pub fn get(&self, place: Place) -> &str {
        text_at(&self.pages[page_of(place)].content, offset_of(place))
    }

    /// Removes the text at a place. The place is then invalid.
    pub fn remove(&mut self, place: Place) {
        let (number, at, bytes) = (page_of(place), offset_of(place), entry_bytes(self.get(place)));
        let page = &mut self.pages[number];
        page.left_bytes -= bytes;
        let (left, is_filling) = (page.left_bytes, self.filling == Some(number));
        if left == 0 && is_filling {
            page.content.clear();
        } else if is_filling && at + bytes == page.content.len() {
            page.content.truncate(at);
        } else if left == 0 {
            self.sparse.retain(|&sparse| sparse != number);
            self.free_page(number);
        } else if !is_filling && left + bytes >= PAGE_BYTES / 2 {
            self.note_if_sparse(number);
        }
    }

    /// Takes out a page that is less than half in use, if there is one. The caller inserts its remaining
    /// texts again, then gives the page back. No other text gets a place of this page before that.
    #[must_use]
    pub fn take_sparse(&mut self) -> Option<TakenPage> {
        let number = self.sparse.pop()?;
        let content = self.empty(number);
        Some(TakenPage { number, content })
    }

    /// Takes back a page after its texts have moved.
    pub fn give_back(&mut self, page: TakenPage) {
        self.free.push(page.number);
    }

    /// Bytes held, as malloc counts them. Of the page being filled only the written part counts, since
    /// the system has backed no more of it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let filling = self.filling.map(|number| &self.pages[number].content);
        let unwritten = filling.map_or(0, |content| content.capacity() - content.len());
        self.bytes - unwritten + self.pages.len() * size_of::<Page>()
    }

    /// Starts to fill a new page of `bytes` bytes.
    fn open_page(&mut self, bytes: usize) -> usize {
        let before = self.filling.take();
        let number = self.free.pop().unwrap_or_else(|| {
            self.pages.push(Page::default());
            self.pages.len() - 1
        });
        self.pages[number].content = String::with_capacity(bytes);
        self.bytes += small_block_bytes(self.pages[number].content.capacity());
        self.filling = Some(number);
        if let Some(before) = before {
            match self.pages[before].left_bytes {
                0 => self.free_page(before),
                _ => self.note_if_sparse(before),
            }
        }
        number
    }

    fn note_if_sparse(&mut self, number: usize) {
        if self.pages[number].left_bytes < PAGE_BYTES / 2 {
            self.sparse.push(number);
        }
    }

    fn free_page(&mut self, number: usize) {
        self.empty(number);
        self.free.push(number);
    }

    /// Takes a page's memory away.
    fn empty(&mut self, number: usize) -> String {
        let page = std::mem::take(&mut self.pages[number]);
        self.bytes -= small_block_bytes(page.content.capacity());
        page.content
    }
}

impl TakenPage {
    /// All texts that were inserted, removed ones included, with their places.
    pub fn texts(&self) -> impl Iterator<Item = (Place, &str)> {
        let mut at = 0;
        std::iter::from_fn(move || {
            if at >= self.content.len() {
                return None;
            }
            let text = text_at(&self.content, at);
            let place = u32::try_from(self.number << PAGE_STEPS_LOG2 | (at / STEP_BYTES));
            at += entry_bytes(text);
            Some((Place(place.expect("it had this place before")), text))
        })
    }
}

fn page_of(place: Place) -> usize {
    (place.0 >> PAGE_STEPS_LOG2) as usize
}

fn offset_of(place: Place) -> usize {
    (place.0 as usize % (1 << PAGE_STEPS_LOG2)) * STEP_BYTES
}

/// Bytes that a text occupies in a page.
fn entry_bytes(text: &str) -> usize {
    let length = u32::try_from(text.len()).ok().and_then(char::from_u32).map_or(0, char::len_utf8);
    (length + text.len()).next_multiple_of(STEP_BYTES)
}

#[inline]
fn text_at(content: &str, at: usize) -> &str {
    // Nearly all texts are shorter than 128 bytes, so their length is a character of one byte.
    match content.as_bytes()[at] {
        length @ 0..=127 => &content[at + 1..at + 1 + usize::from(length)],
        128.. => long_text_at(content, at),
    }
}

#[cold]
fn long_text_at(content: &str, at: usize) -> &str {
    let entry = &content[at..];
    let length = entry.chars().next().expect("a text has its length before it");
    &entry[length.len_utf8()..][..length as usize]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::SplitMix64;

    /// Moves the remaining texts of sparse pages, as the owner of texts does.
    fn tidy(texts: &mut Texts, plain: &mut [(Place, String)]) {
        while let Some(page) = texts.take_sparse() {
            for (place, text) in page.texts() {
                if let Some((kept, plain)) = plain.iter_mut().find(|(kept, _)| *kept == place) {
                    assert_eq!(plain, text);
                    *kept = texts.insert(text);
                }
            }
            texts.give_back(page);
        }
    }

    #[test]
    fn texts_of_any_length_are_where_they_were_put() {
        let mut texts = Texts::default();
        let all: Vec<String> = [0, 1, 3, 4, 127, 128, 5000, 2, 4079, 262].map(|len| "ü".repeat(len)).to_vec();
        let places: Vec<Place> = all.iter().map(|text| texts.insert(text)).collect();
        let read: Vec<&str> = places.iter().map(|&place| texts.get(place)).collect();
        assert_eq!(read, all);
    }

    #[test]
    fn they_are_what_a_plain_list_is_and_at_least_half_of_what_is_held() {
        let (mut texts, mut random) = (Texts::default(), SplitMix64::new(11));
        let mut plain: Vec<(Place, String)> = Vec::new();
        for step in 0..20_000 {
            // The table fills for 5000 steps, empties for 5000, and so on.
            if random.within(0..=9) < if step / 5000 % 2 == 0 { 7 } else { 3 } {
                let text =
                    format!("{step}{}", "é".repeat(random.within(0..=if step % 97 == 0 { 200 } else { 12 })));
                plain.push((texts.insert(&text), text));
            } else if !plain.is_empty() {
                let (place, text) = plain.swap_remove(random.within(0..=plain.len() - 1));
                assert_eq!(texts.get(place), text);
                texts.remove(place);
            }
            tidy(&mut texts, &mut plain);
            let left: usize = plain.iter().map(|(_, text)| entry_bytes(text)).sum();
            assert!(texts.bytes() <= left * 9 / 4 + 5 * PAGE_BYTES + texts.pages.len() * size_of::<Page>());
            if step % 500 == 0 {
                assert!(plain.iter().all(|(place, text)| texts.get(*place) == text));
            }
        }
    }

    #[test]
    fn one_text_that_stays_among_many_that_go_holds_no_page() {
        let mut texts = Texts::default();
        let mut plain = Vec::new();
        for number in 0..20_000 {
            let text = format!("user-{number:05}");
            plain.push((texts.insert(&text), text));
            if number % 100 != 0 {
                let (place, _) = plain.pop().unwrap();
                texts.remove(place);
            }
            tidy(&mut texts, &mut plain);
        }
        assert!(texts.bytes() <= 4 * PAGE_BYTES + 40 * size_of::<Page>(), "{} for 200 texts", texts.bytes());
        for (place, _) in plain.drain(..) {
            texts.remove(place);
        }
        assert!(texts.bytes() <= PAGE_BYTES + 40 * size_of::<Page>(), "{} for none", texts.bytes());
    }
}
