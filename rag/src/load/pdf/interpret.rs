//! The text of a page: its operators move a pen, strings are shown where it stands.

use std::rc::Rc;

use lopdf::{DecompressError, Dictionary, Document as Pdf, Error as PdfError, Object, Stream};

use super::super::guard::Guard;
use super::super::refusal::Refusal;
use super::content::{Operand, Operators};
use super::font::{Font, Fonts};
use super::layout::{Layout, Run};
use super::pages::{self, Page};

/// Forms inside forms; real files have two or three.
const DEEPEST_FORM: usize = 12;
/// Forms drawn on one page.
const MOST_FORMS: usize = 20_000;
/// Saved states.
const DEEPEST_STATE: usize = 512;
/// How many operators pass between two looks at the clock.
const PACE: usize = 256;

type Matrix = [f64; 6];

const IDENTITY: Matrix = [1.0, 0.0, 0.0, 1.0, 0.0, 0.0];

/// First `a`, then `b`.
fn times(a: &Matrix, b: &Matrix) -> Matrix {
    [
        a[0] * b[0] + a[1] * b[2],
        a[0] * b[1] + a[1] * b[3],
        a[2] * b[0] + a[3] * b[2],
        a[2] * b[1] + a[3] * b[3],
        a[4] * b[0] + a[5] * b[2] + b[4],
        a[4] * b[1] + a[5] * b[3] + b[5],
    ]
}

/// The bytes of a stream, counted. One that cannot be inflated is as good as empty.
pub(super) fn decoded(stream: &Stream, guard: &Guard) -> Result<Vec<u8>, Refusal> {
    guard.check()?;
    let (room, over) = guard.room(stream.content.len() as u64);
    match stream.decompressed_content_with_limit(usize::try_from(room).unwrap_or(usize::MAX)) {
        Ok(bytes) => {
            guard.inflate(bytes.len() as u64)?;
            Ok(bytes)
        }
        Err(PdfError::Decompress(DecompressError::MemoryLimitExceeded { .. })) => Err(over),
        Err(_) => Ok(Vec::new()),
    }
}

#[derive(Clone, Debug)]
struct State {
    place: Matrix,
    font: Option<Rc<Font>>,
    size: f64,
    character_space: f64,
    word_space: f64,
    stretch: f64,
    leading: f64,
    rise: f64,
}

pub(super) struct Interpreter<'a, 'f> {
    pdf: &'a Pdf,
    fonts: &'f mut Fonts<'a>,
    guard: &'f Guard,
    layout: Layout,
    state: State,
    saved: Vec<State>,
    text: Matrix,
    line: Matrix,
    forms: usize,
    /// Places of the forms being drawn: one that draws itself is not drawn again.
    drawing: Vec<usize>,
}

impl<'a, 'f> Interpreter<'a, 'f> {
    pub(super) fn new(pdf: &'a Pdf, fonts: &'f mut Fonts<'a>, guard: &'f Guard) -> Self {
        let state = State {
            place: IDENTITY,
            font: None,
            size: 1.0,
            character_space: 0.0,
            word_space: 0.0,
            stretch: 1.0,
            leading: 0.0,
            rise: 0.0,
        };
        Self {
            pdf,
            fonts,
            guard,
            layout: Layout::default(),
            state,
            saved: Vec::new(),
            text: IDENTITY,
            line: IDENTITY,
            forms: 0,
            drawing: Vec::new(),
        }
    }

    /// The text of a page.
    pub(super) fn page(mut self, page: &Page<'a>) -> Result<String, Refusal> {
        let mut content = Vec::new();
        if let Ok(object) = page.dictionary.get(b"Contents") {
            self.gather(object, 0, &mut content)?;
        }
        self.run(&content, page.resources)?;
        Ok(self.layout.finish())
    }

    /// The streams of a page as one; they may be cut between any two words.
    fn gather(&self, object: &'a Object, depth: usize, content: &mut Vec<u8>) -> Result<(), Refusal> {
        match self.pdf.dereference(object) {
            Ok((_, Object::Stream(stream))) => {
                content.extend(decoded(stream, self.guard)?);
                content.push(b'\n');
            }
            Ok((_, Object::Array(parts))) if depth < 4 => {
                for part in parts {
                    self.gather(part, depth + 1, content)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn run(&mut self, content: &[u8], resources: Option<&'a Dictionary>) -> Result<(), Refusal> {
        let mut operators = Operators::new(content);
        let mut operands = Vec::new();
        let mut count = 0_usize;
        let floor = self.saved.len();
        while let Some(name) = operators.next(&mut operands) {
            count += 1;
            if count.is_multiple_of(PACE) {
                self.guard.check()?;
                self.guard.text(self.layout.len())?;
            }
            self.act(&name, &operands, resources, floor)?;
        }
        if self.saved.len() > floor {
            self.state = self.saved[floor].clone();
            self.saved.truncate(floor);
        }
        Ok(())
    }

    fn act(
        &mut self,
        name: &[u8],
        operands: &[Operand],
        resources: Option<&'a Dictionary>,
        floor: usize,
    ) -> Result<(), Refusal> {
        let number = |at: usize| operands.get(at).and_then(Operand::number);
        let first = number(0);
        match name {
            b"q" if self.saved.len() < DEEPEST_STATE => self.saved.push(self.state.clone()),
            b"Q" if self.saved.len() > floor => self.state = self.saved.pop().expect("just seen to be there"),
            b"cm" => {
                if let Some(matrix) = matrix(operands) {
                    self.state.place = times(&matrix, &self.state.place);
                }
            }
            b"BT" => (self.text, self.line) = (IDENTITY, IDENTITY),
            b"Tf" => {
                if let Some(Operand::Name(name)) = operands.first() {
                    self.state.font = Some(self.fonts.get(resources, name, self.guard)?);
                }
                self.state.size = number(1).unwrap_or(self.state.size);
            }
            b"Tc" => self.state.character_space = first.unwrap_or(0.0),
            b"Tw" => self.state.word_space = first.unwrap_or(0.0),
            b"Tz" => self.state.stretch = first.unwrap_or(100.0) / 100.0,
            b"TL" => self.state.leading = first.unwrap_or(0.0),
            b"Ts" => self.state.rise = first.unwrap_or(0.0),
            b"Tm" => {
                if let Some(matrix) = matrix(operands) {
                    (self.text, self.line) = (matrix, matrix);
                }
            }
            b"Td" | b"TD" => {
                let (x, y) = (first.unwrap_or(0.0), number(1).unwrap_or(0.0));
                if name == b"TD" {
                    self.state.leading = -y;
                }
                self.next_line(x, y);
            }
            b"T*" => self.next_line(0.0, -self.state.leading),
            b"Tj" | b"'" => {
                if name == b"'" {
                    self.next_line(0.0, -self.state.leading);
                }
                if let Some(Operand::Text(bytes)) = operands.last() {
                    self.show(bytes, resources)?;
                }
            }
            b"\"" => {
                self.state.word_space = first.unwrap_or(0.0);
                self.state.character_space = number(1).unwrap_or(0.0);
                self.next_line(0.0, -self.state.leading);
                if let Some(Operand::Text(bytes)) = operands.last() {
                    self.show(bytes, resources)?;
                }
            }
            b"TJ" => {
                if let Some(Operand::Array(items)) = operands.last() {
                    for item in items {
                        match item {
                            Operand::Text(bytes) => self.show(bytes, resources)?,
                            Operand::Number(back) => {
                                let step = -back / 1000.0 * self.state.size * self.state.stretch;
                                self.text = times(&[1.0, 0.0, 0.0, 1.0, step, 0.0], &self.text);
                            }
                            _ => {}
                        }
                    }
                }
            }
            b"Do" => {
                if let Some(Operand::Name(name)) = operands.last() {
                    self.draw(name, resources)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn next_line(&mut self, x: f64, y: f64) {
        self.line = times(&[1.0, 0.0, 0.0, 1.0, x, y], &self.line);
        self.text = self.line;
    }

    fn show(&mut self, bytes: &[u8], resources: Option<&'a Dictionary>) -> Result<(), Refusal> {
        let font = match &self.state.font {
            Some(font) => Rc::clone(font),
            None => self.fonts.get(resources, b"", self.guard)?,
        };
        let state = &self.state;
        let mut words = String::new();
        let (mut advance, mut last_space) = (0.0, 0.0);
        for glyph in font.glyphs(bytes) {
            words.push_str(&glyph.text);
            last_space = state.character_space + if glyph.is_space { state.word_space } else { 0.0 };
            advance += (glyph.width * state.size + last_space) * state.stretch;
        }
        let whole = times(&self.text, &state.place);
        let at = |x: f64| {
            (
                x * whole[0] + state.rise * whole[2] + whole[4],
                x * whole[1] + state.rise * whole[3] + whole[5],
            )
        };
        let length = whole[0].hypot(whole[1]);
        // A mirrored or upright-only matrix still has a direction; one of zeros has none, and then left to right will do.
        let along = if length > 0.0 {
            (whole[0] / length, whole[1] / length)
        } else {
            (1.0, 0.0)
        };
        let run = Run {
            text: &words,
            start: at(0.0),
            end: at(advance - last_space * state.stretch),
            along: if state.size < 0.0 {
                (-along.0, -along.1)
            } else {
                along
            },
            size: (whole[2].hypot(whole[3]) * state.size).abs(),
            has_widths: font.has_widths,
        };
        self.layout.show(&run);
        self.text = times(&[1.0, 0.0, 0.0, 1.0, advance, 0.0], &self.text);
        Ok(())
    }

    fn draw(&mut self, name: &[u8], resources: Option<&'a Dictionary>) -> Result<(), Refusal> {
        let object = resources
            .and_then(|resources| pages::entry(self.pdf, resources, b"XObject"))
            .and_then(|objects| self.pdf.dereference(objects.get(name).ok()?).ok());
        let Some((_, Object::Stream(form))) = object else {
            return Ok(());
        };
        if !form
            .dict
            .get(b"Subtype")
            .and_then(Object::as_name)
            .is_ok_and(|kind| kind == b"Form")
        {
            return Ok(());
        }
        let key = std::ptr::from_ref(form) as usize;
        self.forms += 1;
        if self.drawing.contains(&key) || self.drawing.len() >= DEEPEST_FORM || self.forms > MOST_FORMS {
            return Ok(());
        }
        let content = decoded(form, self.guard)?;
        let own = pages::entry(self.pdf, &form.dict, b"Resources");
        let before = (self.state.clone(), self.text, self.line);
        if let Some(matrix) = form
            .dict
            .get(b"Matrix")
            .ok()
            .and_then(|matrix| self.pdf.dereference(matrix).ok())
            .and_then(|(_, matrix)| {
                let numbers: Vec<Operand> = matrix
                    .as_array()
                    .ok()?
                    .iter()
                    .filter_map(|item| Some(Operand::Number(f64::from(item.as_float().ok()?))))
                    .collect();
                self::matrix(&numbers)
            })
        {
            self.state.place = times(&matrix, &self.state.place);
        }
        self.drawing.push(key);
        self.run(&content, own.or(resources))?;
        self.drawing.pop();
        (self.state, self.text, self.line) = before;
        Ok(())
    }
}

fn matrix(operands: &[Operand]) -> Option<Matrix> {
    let mut matrix = IDENTITY;
    if operands.len() < 6 {
        return None;
    }
    for (slot, operand) in matrix.iter_mut().zip(&operands[operands.len() - 6..]) {
        *slot = operand.number().filter(|number| number.is_finite())?;
    }
    Some(matrix)
}
