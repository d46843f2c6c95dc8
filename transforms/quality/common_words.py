"""Common words: for each language, words of grammar that may also be labels (yes, no, none, other, both).

Such a label may stand in any text. Words of meaning, however common ("positive", "spam"), are not among them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from textmint.transforms.core.languages import XLM_R
from textmint.transforms.core.words import fold, spaced

_ENGLISH: Final = """
a about above after again against ago all already also although always am an and another any anyone anything are as at
be because been before being below between both but by can cannot could did do does doing done down during each either
else enough even ever every everyone everything few for from further get gets go had has have having he hence her here
hers herself him himself his how however i if in into is it its itself just least less let many may maybe me might mine
more most much must my myself neither never next no nobody none nor not nothing now of off often on once one only or
other others otherwise our ours ourselves out over own per perhaps same several shall she should since so some someone
something soon still such than that the their theirs them themselves then there these they thing things this those
though through thus till to together too two three four five six seven eight nine ten under unless until up upon us very
was we well were what when where whether which while who whole whom whose why will with within without would yes yet you
your yours yourself first second third last
"""

_OTHERS: Final[Mapping[str, str]] = {
    "af": "ja nee nie geen ander albei niks een",
    "am": "አዎ አይ አይደለም ሌላ የለም ሁለቱም",
    "ar": "نعم لا غير أخرى آخر كلاهما ليس بلى شيء هذا واحد",
    "as": "হয় নহয় নাই অন্য আন",
    "az": "bəli xeyr hə yox digər başqa heç bir",
    "be": "так не ні іншае іншы абодва няма адзін",
    "bg": "да не друго други двете нито няма един",
    "bn": "হ্যাঁ না নয় অন্য অন্যান্য উভয় কোনো",
    "br": "ya nann ket all",
    "bs": "da ne nije drugo ostalo oba nijedno jedan",
    "ca": "sí no cap altre altra altres ambdós ambdues un una",
    "cs": "ano ne není žádný žádná žádné jiný jiná jiné oba obě nic jeden",
    "cy": "ie na nage oes ydy arall dim",
    "da": "ja nej ikke ingen intet andet andre anden begge en et",
    "de": "ja nein nicht kein keine keiner keines nichts andere anderes anderer sonstige sonstiges beide beides eins "
    "ein eine oder doch",
    "el": "ναι όχι δεν άλλο άλλα άλλη κανένα καμία τίποτα ένα μία",
    "eo": "jes ne nenio alia aliaj ambaŭ neniu unu",
    "es": "sí no ninguno ninguna otro otra otros otras ambos ambas nada uno una",
    "et": "jah ei muu teine mõlemad mitte üks",
    "eu": "bai ez beste beste biak bat",
    "fa": "بله خیر نه هیچ هیچکدام هیچ‌کدام دیگر سایر آری بلی یک",
    "fi": "kyllä ei muu muut molemmat mikään joo yksi",
    "fr": "oui non aucun aucune autre autres pas rien ni un une",
    "fy": "ja nee net gjin oare oar beide",
    "ga": "tá níl eile sea gach",
    "gd": "tha chan eile",
    "gl": "si non ningún ningunha outro outra outros outras ambos ambas nada",
    "gu": "હા ના નહીં અન્ય બંને",
    "ha": "wani ba",
    "he": "כן לא אחר אחרת אחרים שניהם אין אף",
    "hi": "हाँ हां नहीं ना अन्य दोनों कोई और एक",
    "hr": "da ne nije drugo ostalo oba nijedno jedan",
    "hu": "igen nem más egyéb semmi egyik mindkettő egy",
    "hy": "այո ոչ այլ երկուսն ոչինչ",
    "id": "ya tidak bukan lain lainnya keduanya tiada ada satu",
    "is": "já nei ekki annað önnur enginn bæði",
    "it": "sì si no nessuno nessuna altro altra altri altre entrambi entrambe niente non uno una",
    "ja": "はい いいえ その他 なし ある ない どちらも なる する",
    "jv": "iya ora dudu liyane loro",
    "ka": "კი არა დიახ სხვა ორივე",
    "kk": "иә жоқ басқа екеуі бір",
    "km": "បាទ ចាស ទេ មិនមែន ផ្សេងទៀត គ្មាន",
    "kn": "ಹೌದು ಇಲ್ಲ ಅಲ್ಲ ಇತರೆ ಇತರ",
    "ko": "예 네 아니요 아니오 기타 없음 있음 아님",
    "ku": "erê belê na yên din hemû",
    "ky": "ооба жок башка экөө бир",
    "la": "ita non nullus alius aliud uterque",
    "lo": "ແມ່ນ ບໍ່ ບໍ່ແມ່ນ ອື່ນໆ ບໍ່ມີ",
    "lt": "taip ne kita kitas abu nė jokio vienas",
    "lv": "jā nē cits cita abi neviens viens nav",
    "mg": "eny tsia hafa roa",
    "mk": "да не друго двете ниту нема еден",
    "ml": "അതെ ഇല്ല അല്ല മറ്റുള്ളവ മറ്റ്",
    "mn": "тийм үгүй бусад өөр хоёул нэг",
    "mr": "होय नाही इतर अन्य दोन्ही हो",
    "ms": "ya tidak bukan lain kedua tiada ada satu",
    "my": "ဟုတ်ကဲ့ ဟုတ်တယ် မဟုတ်ပါ မဟုတ်ဘူး အခြား",
    "ne": "हो होइन छैन छ अन्य अरू दुवै एक",
    "nl": "ja nee niet geen ander andere anders beide niets een",
    "no": "ja nei ikke ingen intet annet andre begge en et",
    "om": "eeyyee lakki kan biroo",
    "or": "ହଁ ନା ନାହିଁ ଅନ୍ୟ",
    "pa": "ਹਾਂ ਨਹੀਂ ਹੋਰ ਦੋਵੇਂ",
    "pl": "tak nie żaden żadna żadne inny inna inne oba obie nic jeden",
    "ps": "هو نه بل نور دواړه",
    "pt": "sim não nenhum nenhuma outro outra outros outras ambos ambas nada um uma",
    "ro": "da nu niciunul niciuna altul alta altele altceva ambele nimic unu una",
    "ru": "да нет не ни другое другой другая другие иное прочее оба обе ничего один",
    "sa": "आम् न अन्य",
    "sd": "ها نه ٻيو ٻئي",
    "si": "ඔව් නැත නැහැ වෙනත් දෙකම",
    "sk": "áno nie žiadny žiadna žiadne iný iná iné oba obe nič jeden",
    "sl": "da ne ni drugo ostalo oba obe nič noben en",
    "so": "haa maya kale labadaba",
    "sq": "po jo tjetër asnjë të dy një",
    "sr": "da ne nije drugo ostalo oba nijedno jedan да не није друго остало оба ниједно један",
    "su": "enya henteu sanés",
    "sv": "ja nej inte ingen inga inget annat andra annan båda en ett",
    "sw": "ndiyo hapana siyo nyingine zote hakuna",
    "ta": "ஆம் இல்லை அல்ல மற்றவை மற்ற",
    "te": "అవును కాదు లేదు ఇతర",
    "th": "ใช่ ไม่ใช่ ไม่ ไม่มี อื่นๆ อื่น ทั้งสอง",
    "tl": "oo hindi iba wala pareho isa",
    "tr": "evet hayır değil hiçbiri diğer başka ikisi yok var bir",
    "ug": "ھەئە ياق باشقا",
    "uk": "так ні не інше інший інші обидва жоден немає нічого один",
    "ur": "جی ہاں نہیں نہ دیگر کوئی دونوں ایک",
    "uz": "ha yo'q boshqa ikkalasi bir",
    "vi": "có không khác cả đúng một",
    "xh": "ewe hayi enye",
    "yi": "יאָ ניין אַנדערע",
    "zh-Hans": "没有 不是 其他 其它 可以 一个 都是 都不是 是的",
    "zh-Hant": "沒有 不是 其他 其它 可以 一個 都是 都不是 是的",
}

ENGLISH: Final = frozenset(_ENGLISH.split())
"""Used for rows of all languages, since models fall back to English labels."""

_BY_LANGUAGE: Final[Mapping[str, frozenset[str]]] = {
    language.name: ENGLISH | {spaced(fold(word)) for word in _OTHERS.get(language.code, "").split()}
    for language in XLM_R
}


def common_words(language: str) -> frozenset[str]:
    """Returns the common words of a language of XLM-R and the English ones, folded and spaced."""
    return _BY_LANGUAGE.get(language, ENGLISH)
