"""What the embedded author knows: fields of life, classification axes, and the sentences it fills.

The fields are written in a line format, since 50 of them as Python literals would be mostly punctuation:

    # NAME                          a field of life
    words: a b c                    words that lead a topic or a foreign task to this field
    kinds: GENRE NOUN | ...         documents of the field, each with the genre that gives it its opening and close
    things: / roles: / sites: / terms:   nouns without article; terms are the specialist register
    + CLAUSE                        a fact that speaks for no label
    axis: NOUN PHRASE ? QUESTION    a label scheme
    - LABEL = CLAUSE | CLAUSE       a label, and clauses any of which makes it the right one

A line that starts with two spaces continues the one before. A clause starts in lower case, has no end mark, reads as
well on its own as after "that", and never holds a label of its scheme. Braces hold slots: {n} is a number above 1, and
a small one before a time or a count of attempts.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Final

from textmint.transforms.llm.offline.fields_a import FIELDS_A
from textmint.transforms.llm.offline.fields_b import FIELDS_B


@dataclasses.dataclass(frozen=True, slots=True)
class Option:
    """A label, and the clauses any of which makes it the right one."""

    label: str
    clauses: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Scheme:
    """One axis to classify by: its name as a noun phrase and as a question, and its labels."""

    phrase: str
    question: str
    options: tuple[Option, ...]
    words: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """One field of life."""

    name: str
    words: tuple[str, ...]
    kinds: tuple[tuple[str, str], ...]  # (genre, noun without article)
    things: tuple[str, ...]
    roles: tuple[str, ...]
    sites: tuple[str, ...]
    terms: tuple[str, ...]
    details: tuple[str, ...]
    schemes: tuple[Scheme, ...]


def _items(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split("|"))


def _schemes(lines: list[str]) -> tuple[Scheme, ...]:
    found: list[Scheme] = []
    for line in lines:
        if line.startswith("axis: "):
            phrase, _, question = line[6:].partition(" ? ")
            found.append(Scheme(phrase, question, (), ()))
        elif line.startswith("words: "):
            found[-1] = dataclasses.replace(found[-1], words=tuple(line[7:].split()))
        elif line.startswith("- "):
            label, _, clauses = line[2:].partition(" = ")
            options = (*found[-1].options, Option(label, _items(clauses)))
            found[-1] = dataclasses.replace(found[-1], options=options)
    return tuple(found)


def _field(block: str) -> Field:
    name, *lines = block.split("\n")
    first = next(i for i, line in enumerate(lines) if line.startswith("axis: "))
    head, axes = lines[:first], lines[first:]
    given = dict(line.split(": ", 1) for line in head if not line.startswith("+ "))
    kinds = tuple((kind.split(" ", 1)[0], kind.split(" ", 1)[1]) for kind in _items(given["kinds"]))
    return Field(
        name,
        tuple(given["words"].split()),
        kinds,
        _items(given["things"]),
        _items(given["roles"]),
        _items(given["sites"]),
        _items(given["terms"]),
        tuple(line[2:] for line in head if line.startswith("+ ")),
        _schemes(axes),
    )


@functools.cache
def fields() -> tuple[Field, ...]:
    """-> every field of life, parsed once a process and only when the author is asked for something."""
    text = (FIELDS_A + FIELDS_B).replace("\n  ", " ")
    return tuple(_field(block.strip()) for block in text.split("\n# ")[1:])


@functools.cache
def shared_schemes() -> tuple[Scheme, ...]:
    """-> the label schemes that fit every field; the first is sentiment."""
    return _schemes(_SHARED.replace("\n  ", " ").strip().split("\n"))


_SHARED: Final = """
axis: the sentiment it expresses ? which sentiment it expresses
words: sentiment opinion polarity feeling attitude review tweet
- positive = the {thing} was worth every minute | {name} would choose the {thing} again tomorrow
  | everyone smiled when the {thing} was ready | the {thing} is better than anyone had hoped
- negative = the {thing} was a waste of money | {name} never wants the {thing} again
  | the {thing} let everybody down | nothing about the {thing} was worth the trouble
- neutral = the {thing} was handed over on {day} | the {thing} carries the number {n}
  | {name} asked where the {thing} is kept | the {thing} was listed on page {n}
- mixed = the {thing} is lovely but far too dear | {name} loved the start and hated the end
  | half of the {thing} delights and half annoys | the {thing} works well yet looks awful
axis: the urgency of the matter ? how urgent the matter is
words: urgency urgent priority important
- immediate = someone may be hurt unless help comes now | the {thing} must be dealt with this very hour
  | each minute without the {thing} does harm | all else must be dropped for the {thing}
- within days = the {thing} is needed before the weekend | {name} can hold out until {day}, hardly longer
  | by the end of the week it matters | the {thing} should be seen to by {day}
- can wait = any time next month will do | there is truly no hurry with the {thing}
  | {name} can manage without it until {month} | whenever somebody is free, the {thing} may follow
- no action needed = this is only meant for the files | the {thing} has already been dealt with
  | {name} merely wanted to mention the {thing} | nobody has to do anything about it
axis: the intention behind it ? which intention is behind it
words: intent intention purpose request
- question = {name} would like to know how it works | what the {thing} costs is still unknown to {name}
  | {name} cannot work out what the {thing} does | {name} wants to learn when it opens
- complaint = {name} is fed up with the {thing} | the {thing} was promised and never came
  | this is the third failure in {n} days | {name} demands that somebody make up for it
- praise = {name} wants the whole team to be thanked | nobody could have handled the {thing} better
  | the {thing} deserves a medal, says {name} | {name} has told all friends how good it is
- suggestion = a second {thing} would make life easier | {name} proposes to open an hour earlier
  | it might help to paint the {thing} | {name} would move the {thing} nearer
- cancellation = {name} does not want the {thing} any more | {name} should be taken off the list for good
  | the order for the {thing} should be withdrawn | {name} will not come on {day} after all
axis: the emotion that is shown ? which emotion is shown
words: emotion mood feeling affect
- joy = {name} danced around the {thing} | {name} could not stop smiling all {day}
  | the {thing} made the whole week shine | {name} hugged everybody at the news
- anger = {name} slammed the door and swore | {name} shouted about the {thing} for an hour
  | {name} called the {thing} an outrage | {name} tore the letter to pieces
- fear = {name} trembles whenever the {thing} is mentioned | {name} no longer dares to go near it
  | {name} keeps asking what may happen next | {name} lay awake and dreaded {day}
- sadness = {name} wept quietly beside the {thing} | {name} misses the old {thing} every day
  | there were tears when the {thing} went | {name} has not laughed since {month}
- surprise = {name} could not believe the {thing} existed | nobody had expected the {thing} at all
  | {name} stared at it with open mouth | of all days it came on {day}
axis: the root cause of the problem ? what the root cause of the problem is
words: cause root reason why
- human error = {name} pressed the wrong button | somebody forgot to lock the {thing}
  | {name} had swapped two numbers by mistake | the {role} read the list upside down
- equipment failure = a worn cable inside the machine snapped | the device gave up after {n} years
  | the pump's bearing broke at {time} | the screen went black from overheating
- missing information = nobody had told {name} about the change | the page with the instructions was never sent
  | the {role} was not told the date | the form left out the one thing needed
- bad weather = hail kept everybody indoors until {time} | the road was under snow on {day}
  | the gale had taken the roof off | heavy rain flooded the way to {place}
- late supplier = the ordered material is still in {place} | the firm that makes it needs {n} weeks more
  | the vendor missed the date again | the parts never left the maker's yard
axis: the audience it is written for ? for whom it is written
words: audience reader readers level
- beginners = no earlier knowledge is needed to follow | each word is explained the first time
  | it starts with what the {thing} is | somebody who never saw one could follow
- experts = it assumes years of practice with the {thing} | the usual basics are skipped without a word
  | only those who publish on it could follow | it opens with a quarrel among specialists
- managers = it ends with costs and a decision to sign | the head of the unit must choose by {day}
  | it sums up risks and budget on one page | those who lead the staff should act
- children = a talking mouse explains the {thing} | pupils in first grade can colour the pictures
  | it asks the little ones to count along | mum or dad may help with the scissors
axis: the state of the matter ? what state the matter is in
words: state status progress stage time
- finished = the last step was taken on {day} | nothing remains to be done on the {thing}
  | the {thing} was handed over and signed for | {name} has closed the file for good
- under way = {name} is busy with the {thing} right now | half of the {thing} is done so far
  | work on the {thing} continues until {month} | step {n} of the list is being done
- planned = the {thing} is due to start in {month} | {name} will begin with the {thing} soon
  | not a hand has moved yet, but dates exist | from {month} the {thing} shall be tackled
- called off = the {thing} will never happen now | {name} dropped the whole idea on {day}
  | nobody will start it, the money is withdrawn | the {thing} was struck from the programme
axis: the kind of evidence it rests on ? which kind of evidence it rests on
words: evidence source proof fact claim
- eyewitness account = {name} stood beside the {thing} and watched | {name} saw it happen from the window
  | with these very eyes {name} followed it | {name} was there at {time} and looked on
- hearsay = a cousin of {name} was told so | somebody told somebody in {place}
  | they say so at the hairdresser's | {name} has it from a friend's friend
- measurement = the gauge showed {n} at {time} | {n} readings were taken with a ruler
  | the scale gave {n} grams twice | the stopwatch says {n} seconds
- official document = it is stamped and signed by the registry | the certificate of {date} states it
  | page {n} of the act says so | the notarised deed from {place} states it
- guess = {name} has no idea but would bet on it | it just feels that way to {name}
  | nobody checked, {name} simply supposes so | {name} tossed a coin, more or less
axis: the aspect that is judged ? which aspect is judged
words: aspect feature quality judged rated
- price = {n} euros for the {thing} is a lot | the {thing} costs half of what others ask
  | {name} paid more than it is worth | the {thing} came almost for nothing
- speed = it took {n} minutes instead of five | the {thing} was there in no time
  | {name} had hardly asked when it was done | one could fall asleep until it is done
- friendliness = the {role} greeted everyone with a smile | the {role} rolled his eyes at {name}
  | {name} was treated like an old friend | nobody even said hello to {name}
- reliability = the {thing} never failed in {n} months | every second time the {thing} fails
  | one can count on it in any season | {name} had to call back {n} times
- ease of use = {name} understood it without a manual | nobody finds the right button on it
  | even after {n} tries it stays a riddle | two clicks are all it takes
axis: the best next step ? which next step is best
words: next step action response reply handling
- refund = {name} paid twice and should have it back | the {thing} was paid for but never came
  | the {n} euros were taken without any right | the sum for the {thing} must go back
- explanation = {name} just does not know how it works | one paragraph about the {thing} would clear it up
  | {name} has mixed up two terms | it is merely unclear what page {n} means
- visit on site = somebody has to see the {thing} in {place} | it cannot be mended over the phone
  | a {role} with tools should go there | only a look at the {thing} will tell
- escalation = {name} has asked {n} times and threatens court | the desk has no right to decide this
  | only the head of the house can settle it | the case is too big for one {role}
- closing the case = {name} has what was wanted and says so | the {thing} works again and {name} is content
  | there is nothing left that anyone asks for | {name} wrote that all is fine now
axis: the outcome it reports ? which outcome it reports
words: outcome result effect success
- improvement = the {thing} does far better than in {month} | since {day} the trouble has halved
  | week by week the {thing} gets stronger | {name} counts {n} faults fewer than before
- no change = the {thing} is exactly as it was | after {n} days all figures are the same
  | {name} can see no difference at all | before and after look alike to {name}
- deterioration = the {thing} does worse than in {month} | since {day} the trouble has doubled
  | week by week the {thing} gets weaker | {name} counts {n} faults more than before
- full success = everything that was aimed at was reached | not one fault is left in the {thing}
  | all {n} goals were met by {month} | {name} crossed off the very last point
axis: the function of the text ? what the text is meant to do
words: function purpose
- warning = whoever touches the {thing} may get hurt | one must keep away from it until {day}
  | the {thing} can burn your fingers | it is not safe to go near {place}
- instruction = the lid is opened first, then turned twice | step {n} comes only after step one
  | the {thing} goes on the left, then one presses | both lines are to be filled in and signed
- announcement = from {day} the doors open at {time} | there will be a new {thing} in {month}
  | {name} takes over as head in {month} | the {thing} moves to {place} on {date}
- apology = {name} is sorry about the {thing} | it was our fault and will not recur
  | we beg your pardon for the wait | {name} regrets every word said on {day}
- invitation = everyone may come and join in on {day} | a chair is kept free for you
  | you are welcome at {time}, cake included | {name} would love to see you there
"""

ALIASES: Final[Mapping[str, str]] = {
    "good": "positive",
    "favourable": "positive",
    "favorable": "positive",
    "happy": "joy",
    "happiness": "joy",
    "bad": "negative",
    "unfavourable": "negative",
    "unfavorable": "negative",
    "angry": "anger",
    "sad": "sadness",
    "scared": "fear",
    "afraid": "fear",
    "surprised": "surprise",
    "urgent": "immediate",
    "high": "immediate",
    "critical": "immediate",
    "medium": "within days",
    "low": "can wait",
    "not urgent": "can wait",
    "inquiry": "question",
    "enquiry": "question",
    "query": "question",
    "compliment": "praise",
    "feedback": "suggestion",
    "finance": "business",
    "sport": "basketball",
    "sports": "basketball",
    "tech": "installation",
    "technology": "installation",
    "health": "treatment",
    "weather": "bad weather",
}
"""Classes that users name, to the label whose clauses fit them."""

_CLASSES: Final[Mapping[str, tuple[str, ...]]] = {
    "spam": (
        "you have won {n} thousand euros, click now",
        "this offer ends tonight, send your card number",
        "a prince in {place} needs your account",
        "cheap pills are sent without any prescription",
    ),
    "ham": (
        "{name} will bring the {thing} on {day}",
        "lunch with {name} is at {time} as always",
        "the minutes of {day} are in the folder",
        "{name} needs the key to the {site}",
    ),
    "formal": (
        "{name} respectfully submits the enclosed papers",
        "the undersigned requests a reply by {date}",
        "it is hereby confirmed that it was received",
    ),
    "informal": (
        "{name} totally nailed it yesterday, lol",
        "they're gonna grab a bite, y'know",
        "it looks kinda weird, mate",
    ),
    "sarcastic": (
        "the {thing} broke again, oh how lovely",
        "locking it was pure genius, bravo",
        "waiting {n} hours is such fun, sure",
    ),
    "sincere": (
        "{name} means every word of thanks",
        "{name} truly hopes the {thing} will last",
        "from the heart {name} wishes them well",
    ),
    "fact": ("the {thing} weighs {n} kilograms", "the {site} was opened on {date}", "{n} people work in the {site}"),
    "opinion": (
        "{name} finds the {thing} simply ugly",
        "to {name} nothing beats the {thing}",
        "in the eyes of {name} it is overrated",
    ),
    "true": ("the records of {date} bear it out", "three checks gave the same answer", "it stands in the register"),
    "false": ("the records of {date} say the opposite", "three checks refuted it", "it was made up in {place}"),
    "relevant": ("it speaks of just the matter asked about", "every line deals with what was asked"),
    "irrelevant": ("it speaks of quite another matter", "it has nothing to do with the matter asked"),
    "toxic": ("{name} called the others worthless idiots", "{name} told the newcomer to drop dead"),
    "polite": ("{name} kindly asks whether it might be possible", "{name} would be most grateful for an answer"),
    "rude": ("{name} told the {role} to get lost", "{name} told them all to shut up"),
}
KNOWN_CLASSES: Final[Mapping[str, tuple[str, ...]]] = {
    **_CLASSES,
    "yes": ("all that was asked for holds here", "{name} agreed with all of it at once", "every point fits the case"),
    "no": ("the case fits in very few ways", "{name} refused all of it at once", "the main demand is unmet"),
    "objective": _CLASSES["fact"],
    "subjective": _CLASSES["opinion"],
    "factual": _CLASSES["fact"],
    "sarcasm": _CLASSES["sarcastic"],
    "sincerity": _CLASSES["sincere"],
    "not spam": _CLASSES["ham"],
    "legitimate": _CLASSES["ham"],
    "impolite": _CLASSES["rude"],
}
"""Classes that users often list and no scheme holds, with clauses that fit them."""

UNKNOWN_CLASS: Final = (
    "all signs match the case from {place}",
    "{name} saw the typical marks at once",
    "it is just like the sample of {date}",
    "the {role} recognised the pattern on {day}",
    "it shares {n} traits with the earlier case",
    "each mark from the checklist is there",
    "the {role} put it beside the earlier case",
    "{name} had filed {n} pieces like it",
)
"""For a class that a user listed and the author knows nothing of."""

ABSENT: Final = (
    "{name} looked for the usual signs in vain",
    "the checklist stayed blank from top to bottom",
    "the {role} found it quite ordinary on {day}",
    "it is as harmless as the sample of {date}",
)
"""For the other side of a class: "not X" of a task that asks whether something is X."""

GIVEN: Final = _items(
    "Ada|Ahmed|Aiko|Alma|Amir|Anna|Arun|Bela|Bianca|Boris|Carla|Chen|Clara|Dario|Dalia|Dmitri|Edda|Elif|Emil|"
    "Enzo|Farah|Felix|Fiona|Gita|Greta|Hana|Hugo|Ida|Igor|Imani|Ines|Ivan|Jana|Jonas|Jun|Kaja|Karim|Kofi|Lars|"
    "Leila|Lena|Liam|Lucia|Maja|Marco|Mei|Milan|Mina|Nadia|Nils|Noor|Olga|Omar|Otto|Paula|Pedro|Petra|Priya|"
    "Rania|Ravi|Rosa|Samir|Selma|Sofia|Stefan|Tariq|Tessa|Tomas|Ulla|Vera|Victor|Wanda|Yara|Yusuf|Zara|Zoe"
)
FAMILY: Final = _items(
    "Abbott|Acosta|Andersson|Baker|Banerjee|Becker|Bianchi|Brandt|Castro|Chang|Cohen|Costa|Dahl|Dogan|Dubois|"
    "Eriksen|Fischer|Fontaine|Garcia|Grant|Haas|Haddad|Hansen|Hoang|Ibrahim|Ito|Jansen|Jovic|Kaya|Keller|Khan|"
    "Kowalski|Kumar|Larsen|Lindgren|Lopez|Malik|Marino|Mensah|Molnar|Moreau|Mori|Nair|Novak|Okafor|Olsen|Ortiz|"
    "Park|Petrov|Quinn|Ramos|Rossi|Sato|Schmidt|Silva|Singh|Sokolov|Tanaka|Torres|Usman|Vargas|Walker|Weber|"
    "Wolff|Yamada|Yilmaz|Zhang"
)
PLACES: Final = _items(
    "Aarhus|Adelaide|Antwerp|Bergen|Bologna|Bordeaux|Bristol|Brno|Calgary|Cardiff|Cork|Davos|Dundee|Durban|"
    "Galway|Gdansk|Geneva|Ghent|Girona|Graz|Haifa|Halifax|Izmir|Jaipur|Kyoto|Lagos|Leeds|Leipzig|Lima|Linz|"
    "Lisbon|Lyon|Malmo|Mombasa|Nantes|Osaka|Oulu|Padua|Perth|Porto|Quito|Riga|Rosario|Salzburg|Seville|Split|"
    "Tampere|Tartu|Trieste|Tromso|Turin|Utrecht|Valencia|Vilnius|Windhoek|Zagreb"
)
DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS: Final = _items("January|February|March|April|May|June|July|August|September|October|November|December")

OPENERS: Final[Mapping[str, tuple[str, ...]]] = {
    "mail": ("Dear team,", "Good morning,", "Dear Sir or Madam,", "Hello,", "To whom it may concern,", "Good evening,"),
    "post": ("Hi everyone,", "Hello from {place}.", "First post here, so be kind.", "Back after a long break.", ""),
    "note": ("Entry of {date}, {time}.", "{day}, {time}.", "Note of {date}.", "{date}, written at the {site}."),
    "report": ("Report of {date}.", "Summary for {month}.", "Report no. {n}, {place}.", "{place}, {date}."),
    "review": ("", "Visited in {month}.", "Written after {n} days.", "My view, for what it is worth."),
    "chat": ("Hi there.", "Hello, {given} here.", "Hey, quick message.", "Good day."),
    "call": ("Call taken at {time}.", "Line {n}, {time}.", "Hello, {given} speaking.", "The caller is from {place}."),
    "news": ("{place}, {date}.", "{place}.", "({day}, {place})", ""),
}
CLOSERS: Final[Mapping[str, tuple[str, ...]]] = {
    "mail": ("Kind regards, {sender}", "Yours faithfully, {sender}", "Best wishes, {sender}", "With thanks, {sender}"),
    "post": ("Thanks for reading.", "So much from {place}.", "More when there is more.", ""),
    "note": ("Signed, {sender}.", "Copied to the file.", "End of entry.", ""),
    "report": ("Compiled by {sender}.", "Figures as of {date}.", "Filed under number {n}.", ""),
    "review": ("That is my view.", "Written in {place}.", "", ""),
    "chat": ("Thanks, {given}.", "That is all from me.", "Talk soon.", ""),
    "call": ("The call ended at {time}.", "The number is on file.", "Logged by {sender}.", ""),
    "news": ("More on page {n}.", "Reported by {sender}.", "", ""),
}

HIGH_SCHOOL: Final = "high school"
COLLEGE: Final = "college"
PHD: Final = "PhD"
CLEAR: Final = "clear"
EFFORT: Final = "understandable with some effort"
AMBIGUOUS: Final = "ambiguous"

# Braced {c} is the clause that decides, {m} one that would make the misleading label right.
FRAMES: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    (HIGH_SCHOOL, CLEAR): (
        "{c}.",
        "The main point is this: {c}.",
        "Here is what counts: {c}.",
        "In short, {c}.",
        "The {role} says that {c}.",
        "This much is sure: {c}.",
    ),
    (HIGH_SCHOOL, EFFORT): (
        "It took a while to see it, but {c}.",
        "Put the small things aside, and {c}.",
        "Nobody says it at once, yet {c}.",
        "Read it twice and you see that {c}.",
        "Much is said around it, but {c}.",
    ),
    (HIGH_SCHOOL, AMBIGUOUS): (
        "At first it looked as if {m}. In the end, though, {c}.",
        "Some say that {m}. Still, {c}.",
        "One might think that {m}. More likely, {c}.",
        "A friend thought that {m}. But it seems that {c}.",
    ),
    (COLLEGE, CLEAR): (
        "The essential point, which the {role} confirmed, is that {c}.",
        "As the {role} has pointed out, {c}.",
        "It can be stated without hesitation that {c}.",
        "What matters most, according to the {role}, is that {c}.",
        "There is general agreement that {c}.",
    ),
    (COLLEGE, EFFORT): (
        "Once the surrounding circumstances are set aside, it becomes apparent that {c}.",
        "Although the {role} approached the subject in a roundabout way, the implication is that {c}.",
        "Reading between the lines, one gathers that {c}.",
        "Only after several digressions does it emerge that {c}.",
    ),
    (COLLEGE, AMBIGUOUS): (
        "Although one might initially suppose that {m}, a closer look suggests that {c}.",
        "While the {role} maintained that {m}, most indications are that {c}.",
        "It has been argued that {m}, yet on balance it seems that {c}.",
        "Impressions diverge: some hold that {m}, but more speaks for the view that {c}.",
    ),
    (PHD, CLEAR): (
        "Controlling for {term}, the evidence establishes unequivocally that {c}.",
        "The salient finding, {term} notwithstanding, is that {c}.",
        "Irrespective of {term}, it is demonstrably the case that {c}.",
        "An appraisal grounded in {term} leads to the conclusion that {c}.",
    ),
    (PHD, EFFORT): (
        "Only once {term} has been bracketed does it transpire that {c}.",
        "Obliquely, and at one remove from considerations of {term}, the account intimates that {c}.",
        "What the discussion of {term} presupposes, without ever asserting it, is that {c}.",
    ),
    (PHD, AMBIGUOUS): (
        "A rival reading, on which {m}, retains some plausibility; yet {term} lends more weight to the view that {c}.",
        "Prima facie, {m}; scrutiny in the light of {term} nonetheless favours the inference that {c}.",
        "While {term} might suggest that {m}, the balance of considerations indicates that {c}.",
    ),
}
TIGHT_AMBIGUOUS: Final = "Some say {m}; still, {c}."

SHORT: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    (HIGH_SCHOOL, CLEAR): ("{c}.", "{Thing}: {c}.", "Well, {c}.", "Look, {c}."),
    (HIGH_SCHOOL, EFFORT): ("It seems {c}.", "So I hear, {c}.", "Somehow {c}.", "Oddly, {c}."),
    (HIGH_SCHOOL, AMBIGUOUS): ("Maybe {c}.", "I guess {c}.", "{c}, I think.", "{c}, maybe."),
    (COLLEGE, CLEAR): ("Evidently, {c}.", "As confirmed, {c}.", "{Thing}: {c}.", "Clearly, {c}.", "Undoubtedly, {c}."),
    (COLLEGE, EFFORT): ("Apparently, {c}.", "By implication, {c}.", "Presumably, {c}.", "On reflection, {c}."),
    (COLLEGE, AMBIGUOUS): ("Arguably, {c}.", "Possibly, {c}.", "{c}, although opinions differ.", "{c}, supposedly."),
    (PHD, CLEAR): ("{Term}: {c}.", "Demonstrably, {c}.", "Ipso facto, {c}.", "Unequivocally, {c}."),
    (PHD, EFFORT): ("{Term} aside, {c}.", "Inferentially, {c}.", "Implicitly, {c}.", "A fortiori, {c}."),
    (PHD, AMBIGUOUS): ("Putatively, {c}.", "Prima facie, {c}.", "{Term} permitting, {c}.", "Ostensibly, {c}."),
}

# What brings in the thing that a task speaks of. Number and tense are those of one thing in the past.
MENTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    HIGH_SCHOOL: (
        "This is about the {thing}.",
        "It concerns {a_thing} in {place}.",
        "The {thing} is part of it.",
        "The {thing} comes up here.",
        "{name} had {a_thing} in mind.",
    ),
    COLLEGE: (
        "The background is {a_thing} that {name} mentioned on {day}.",
        "The context is provided by the {thing}, to which {name} referred in {month}.",
        "In connection with the {thing}, the following was recorded in {place}.",
    ),
    PHD: (
        "The {thing} serves as the point of departure for what follows.",
        "With respect to the {thing}, considerations of {term} have to be borne in mind.",
        "The {thing} at issue raises questions of {term}.",
    ),
}

FILLERS: Final[Mapping[str, tuple[str, ...]]] = {
    HIGH_SCHOOL: (
        "{name} was there on {day}.",
        "The {role} came at {time}.",
        "We met at the {site}.",
        "{name} had some notes about the {thing}.",
        "{other} made a list of {n} points.",
        "The {role} wrote it all down.",
        "{name} came over from {place}.",
        "The bell rang at {time}.",
        "We talked for {n} minutes.",
        "{other} had heard of the {thing} before.",
        "We stayed at the {site} until {time}.",
        "There were {few} of us.",
        "{name} drank tea and listened.",
        "The {role} asked for the date.",
        "The file is dated {date}.",
        "{other} lives near {place}.",
        "We spoke of the {thing} in {month}.",
        "There is a page about the {thing}.",
        "{name} called {other} in the evening.",
        "The {role} is new here.",
        "We used the back door of the {site}.",
        "{other} sat next to the {role}.",
        "The folder has {n} pages.",
        "{name} and {other} work together.",
        "I first heard of it in {month}.",
        "It rained a little in {place}.",
        "{name} took the bus from {place}.",
        "It was quiet at the {site}.",
        "{other} keeps the keys.",
        "{name} mentioned the {thing} on the way.",
        "The {role} has a desk by the window.",
        "{other} put a copy in the drawer.",
        "The date is in the book.",
        "{name} has come here for {few} years.",
        "My sister knows {other} well.",
        "The {thing} was the topic of the day.",
        "{other} brought a second pen.",
        "The walk to the {site} takes {n} minutes.",
        "The {role} and {name} had lunch in {place}.",
        "It was a {day} like many others.",
        "A copy went to {other}.",
        "The phone rang twice.",
        "{name} wore a blue coat.",
        "{other} read the first page aloud.",
        "They spoke at the {site}.",
        "Then the {role} went back to the {site}.",
        "{name} asked {other} for the file.",
        "The list has {n} lines.",
    ),
    COLLEGE: (
        "{name}, who had come from {place} with {a_role}, was present when the subject came up.",
        "According to the notes taken on {date}, the conversation lasted {n} minutes.",
        "The {role} had spoken with {other} beforehand, as is customary at the {site}.",
        "When {name} arrived from {place}, the others were already at the {site}.",
        "It should be added that {detail}.",
        "As far as the general setting is concerned, {detail}.",
        "The {thing}, which had been discussed at the {site} since {month}, was familiar to {other}.",
        "For the sake of completeness, {name} recorded the date, {date}, in the margin.",
        "{other} compared the {thing} with a similar one in {place}.",
        "While the {role} consulted the file, {name} waited at the {site}.",
        "The correspondence, which covers {n} pages, was passed on to {other}.",
        "Of the {n} people involved, {name} had known the {role} for the longest time.",
        "The {role}, whose address is in {place}, received a copy on {day}.",
        "Before the discussion turned to the {thing}, {other} described the arrangement of the {site}.",
        "In the course of {month}, {name} and {other} exchanged several messages.",
        "Those familiar with the {site} will remember that {detail}.",
        "The chronology, as reconstructed by {other}, begins in {month}.",
        "Since the {role} was travelling to {place}, the conversation took place by telephone.",
        "{name} referred to the {thing} in a separate paragraph, which is reproduced in the file.",
        "Further particulars were collected by {other} between {day} and {date}.",
        "A comparable {thing} is known from {place}, where {other} was formerly employed.",
        "The summary was prepared at the {site}, where the relevant files are stored.",
        "During the same conversation, the {role} recalled that {detail}.",
        "{other}, having studied the file in {place}, contributed {few} remarks.",
        "The arrangement between {name} and the {role} dates from {month}.",
        "At {time}, when few people were left at the {site}, {other} joined the conversation.",
    ),
    PHD: (
        "Any inference about the {thing} presupposes an adequate account of {term}.",
        "The heterogeneity introduced by {term} precludes a naive reading of the file from {place}.",
        "{name} ({place}) situates the {thing} within the wider debate on {term}.",
        "Methodologically, the account oscillates between {term} and {term_two}.",
        "In keeping with the literature on {term}, {n} observations were coded independently by {other}.",
        "Insofar as {term} is held constant, the contribution of {term_two} can be isolated.",
        "The protocol, as amended by {other} in {month}, stipulates explicit treatment of {term}.",
        "It bears emphasis, parenthetically, that {detail}.",
        "Ancillary documentation, collated by {name} at the {site}, stipulates that {detail}.",
        "The operationalisation of {term} adopted here follows the convention established in {place}.",
        "Confounding by {term} cannot be excluded a priori, as {other} has observed.",
        "The {role} invoked {term_two} as an organising construct for the {thing}.",
        "A purely descriptive vocabulary would obscure the interplay of {term} and {term_two}.",
        "Following {name}, the {thing} is construed as a boundary object between {term} and {term_two}.",
        "Sensitivity to {term} was probed by means of {n} ancillary comparisons.",
        "The epistemic status of {term}, contested since the {place} symposium, is bracketed in what follows.",
        "Such considerations of {term_two} delimit the scope of the analysis conducted at the {site}.",
        "The underlying documentation (item {n}, {date}) is silent on {term}.",
        "Where {term} and {term_two} diverge, the {role} privileges the former.",
        "The conceptual apparatus, indebted to {other}, renders {term} tractable.",
        "Exogenous variation in {term_two} was documented between {month} and {date}.",
        "The {thing}, qua unit of analysis, is individuated with reference to {term}.",
    ),
}
