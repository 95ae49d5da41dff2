"""The words that may stand around a list, and those that turn it down. docs/ranking.md says how they are used.

English first, as prompts are; then what models of everyday use write before and after a list in other languages.
Matching is done in lower case, on text without mark-up.
"""

from __future__ import annotations

import re

NOUNS = (
    r"(?:passages?|documents?|docs?|items?|options?|candidates?|snippets?|articles?|segments?|ids?|texts?|paragraphs?|"
    r"results?|sources?|entry|entries|excerpts?|pasajes?|pasos?|documentos?|dokumente?n?|abschnitte?|texte|textes|"
    r"passaggi|passaggio|passagens|passagem|trechos?|documenti|段落|文档|文章|篇章|文書|パッセージ|문서|단락)"
)
_ENGLISH = """
    a about above according address addresses after all am an analysis analyzed analyzing and answer answering
    answers appropriate are as asked assessed assessing assessment at based be been being below best better
    bracketed brackets by can careful carefully certainly clear comes compared comparing complete conclusion
    consideration considered considering content contents correct corrected course decreasing degree descending
    desired determined directly do down each evaluated evaluating evaluation evidence exact explanation final
    finally first follow following follows for format from full given go goes have having helpful helpfulness hence
    here here's high highest how i i'd i'll i'm i've ids identifiers importance important in information into is it
    its it's judged judgment judgement just last least let let's level likely list listed listing lists looking
    lowest matching me more most my new now number numbers of okay ok on one ones only order ordered ordering our
    output overall passage please proposed provided quality question query questions rank ranked ranking rankings
    ranks re-ranked re-ranking read reading reasoning recommended relation relevance relevancy relevant reply
    request requested required rerank reranked reranking respect respective response result results review reviewed
    reviewing revised right scores score seems set should so sorted sorting specified starting strongest suggested
    suitable sum summarize summary sure terms than thank thanks that that's the their them then there therefore
    these they this thus to top under understood up updated use useful usefulness using very way we we'd we'll we've
    weakest well what will with worst would yes you your actual actually absolutely help question's query's two
    three four five six seven eight nine ten twenty end start come final_ranking final_answer definitive resulting
    thinking thought thoughts sort evaluate responsive closely relative relatedness match matches relate relates
    related regarding concerning concerns contribution utility suitability informativeness informative pertinence
    pertinent separated symbol sign signs json array text line lines happy great good assistant ai bot bottom
    usefully most-relevant least-relevant confident fit fits likelihood
"""
_OTHERS = """
    hier ist sind die der das den dem des meine mein rangfolge rangliste reihenfolge ranking rangordnung sortiert
    sortierte sortierung geordnet geordnete absteigend absteigender nach relevanz relevanteste relevantesten
    relevanten relevant am meisten wenigsten von vom bis zu zum zur beste besten bestes bester zuerst schlechtesten
    endgültige finale lautet lauten wie folgt folgende folgenden passagen dokumente texte abschnitte antwort
    ergebnis basierend auf ihrer für frage anfrage natürlich gerne gern und mit wichtigkeit hinsichtlich bezüglich
    in bezug aufgrund meiner analyse daher also somit würde ich sie ordnen bewertung sortieren einordnung ein eine
    im um wäre basándome basado basada basándose aquí está esta es son la el los las mi lista clasificación
    clasificacion orden ordenados ordenadas ordenado relevancia relevante relevantes según segun de del más mas a al
    menos mejor mejores peor primero final respuesta resultado por su para pregunta consulta pasajes documentos
    descendente importancia siguiente claro supuesto desde hasta mayor menor en con respecto sería sigue como
    d'après voici le les classement l'ordre ordre d'ordre pertinence pertinent pertinente du au aux plus moins
    meilleur pire décroissant décroissante d'abord réponse résultat question selon leur sont est mon trié triés
    classés classé par suivant passages liste bien sûr définitif que pour rapport requête ecco certo di dei passaggi
    documenti classifica ordine rilevanza pertinenza rilevante dal meno più piu migliore peggiore risposta risultato
    secondo alla domanda mia decrescente il lo gli è sono ordinati dalla aqui classificação classificacao ordem
    relevância do ao dos mais melhor pior resposta trechos passagens minha à pergunta segue os as uma rangschikking
    volgorde van relevantie meest naar minst het is mijn вот ранжирование рейтинг порядок релевантности итоговый по
    от наиболее к наименее релевантного релевантному мой ответ окончательный список убывания в порядке
"""
WORDS = frozenset(_ENGLISH.split()) | frozenset(_OTHERS.split())
_UNSPACED = re.compile(
    r"(?:因此|所以|综上|从最相关到最不相关|从高到低|由高到低|从最高到最低|从好到差|相关性?|相关度|与|问题|查询|的|进行|程度|按照?|根据|"
    r"重新|排序|排列|排名|顺序|次序|结果|如下|以下|为|是|最终|我|对|这些|所有|所提供|提供|文档|段落|文章|篇章|了|答案|给出|"
    r"降序|之间|它们|其|中|好|当然|可以|将|会|认为|评估|分析|后|经过|并|最相关|优先|在前|先|回答|"
    r"関連性?|関連度|の|高い|順|順位|順番|ランキング|は|です|以下|に|結果|最終|が|回答|パッセージ|並べ|替え|ると|こちら|"
    r"관련성|순위|순서|최종|다음과|같습니다|결과|높은|순|은|는|이|에|따른|의|문서)+"
)

RANKING = re.compile(
    r"\b(?:re-?)?rank(?:ing|ings|ed|s)?\b|\b(?:final|relevance|best|new|correct|right|sorted|resulting)\s+order(?:ing)?\b|"
    r"^\s*(?:so,?\s+)?(?:(?:the|my)\s+)?order(?:ing)?(?:\s+(?:is|would\s+be))?\s*$|\border(?:ed)?\s+(?:of|by)\s+(?:their\s+)?(?:relevance|usefulness|importance)|"
    r"\bsorted\b|\bordered\b|\bdescending\b|\bbest\b.{0,30}\b(?:first|to)\b|\bmost\b.{0,30}\b(?:first|to)\b|"
    r"^\s*(?:the\s+|my\s+)?(?:final\s+)?(?:answer|(?:result|output)(?:\s+is)?)\s*$|"
    r"\b(?:rangfolge|rangliste|rangordnung|sortiert|geordnet|absteigend|clasificaci[óo]n|classement|classifica|"
    r"classifica[çc][ãa]o|rangschikking|ранжирование|рейтинг)|"
    r"\b(?:reihenfolge|orden|ordre|ordine|ordem|volgorde|порядок|порядке)\b.{0,30}\b(?:relev|relév|pertinen|rilevan|релевант)|"
    r"\b(?:beste|mejor|meilleur|migliore|melhor)\w*\s+(?:zuerst|primero|d'abord)|"
    r"\bm[áa]s\b.{0,20}\bmenos\b|\bplus\b.{0,20}\bmoins\b|\bpi[ùu]\b.{0,20}\bmeno\b|\bmais\b.{0,20}\bmenos\b|"
    r"\bmeisten\b.{0,30}\bwenigsten\b|排序|排名|从高到低|从最相关|関連性?の高い|ランキング|順位|순위",
    re.IGNORECASE,
)
# "I ranked 3 passages: ..." names what was ranked, not how.
RANKED_OBJECT = re.compile(
    r"\b(?:(?:i|we)(?:'ve|\s+have)?\s+(?:re-?)?rank(?:ed)?|(?<!would\s)(?<!'d\s)(?<!how\si\s)(?<!should\s)(?:re-?)?rank(?:ed|ing)?(?=\s+(?:the|all|these|those|\d|two|"
    r"three|four|five|six|seven|eight|nine|ten)))\s+(?:(?:the|all|these|those|of|provided|\d{1,3}|two|three|four|five|"
    rf"six|seven|eight|nine|ten)\s+){{0,4}}(?:{NOUNS}|them|these)\s*$|"
    rf"^\W*(?:\d{{1,3}}|two|three|four|five|six|seven|eight|nine|ten)\s+{NOUNS}\s+(?:(?:were|are)\s+)?(?:re-?)?ranked\s*$",
    re.IGNORECASE,
)
FINAL = re.compile(
    r"\b(?:final(?:ly)?|answer|conclusions?|corrected|correction|revised|updated|actual(?:ly)?|therefore|thus|so|hence|"
    r"endgültige|daher|definitivo|définitif)\b|最终|最終|최종",
    re.IGNORECASE,
)
# In the words that lead a list in, also where they are free ("the question about ...").
DENIED = re.compile(
    r"\b(?:not|never|cannot|wrong(?:ly)?|incorrect(?:ly)?|mistaken|instead\s+of|rather\s+than|examples?|e\.?g|whether|"
    r"for\s+instance|templates?|such\s+as|syntax|initial(?:ly)?|original(?:ly)?|draft|tentative(?:ly)?|previous(?:ly)?|"
    r"earlier|before|first\s+(?:thought|guess|attempt|try|impression|pass)|baseline|random(?:ly)?|arbitrary|off-topic|"
    r"irrelevant|unrelated|neither|none|nor|ignore|discard(?:ed)?|exclud(?:e|ed|ing)|(?:input|given)\s+(?:order|list)|"
    r"(?:order|list|sequence)\s+(?:as\s+)?(?:given|shown|presented|provided|received|seen|asked)|as\s+(?:given|shown)|"
    r"(?:sorted|ranked|ordered|ranking|order)\s+by\s+(?:(?:the|their|its|passage|document)\s+)*"
    r"(?:dates?|lengths?|names?|titles?|sizes?|sources?|numbers?|ids?|index|positions?)|"
    r"(?:list|passage|document|numbers?|id|line|text|prompt)\s+order|order\s+of\s+(?:the\s+)?(?:numbers?|ids|identifiers|list|lines)|"
    r"your\s+(?:\w+\s+)?(?:ranking|order|list)|you(?:'d|\s+would)?\s+(?:rank|order|sort|list)|(?:to|when|for|of)\s+read(?:ing)?|"
    r"unsorted|alphabetical(?:ly)?|chronological(?:ly)?|appearance|irrelevance|"
    r"(?:to|please|must|should)\s+(?:be\s+)?(?:re-?)?(?:rank|sort|order)(?:ed)?(?!\s+(?:as|is|in|by|from)\b)|"
    r"^\s*rank\s+(?:the|these|those|all)|no\s+(?:\w+\s+)?(?:ranking|order)|"
    r"(?:ranking|order)\s+(?:wanted|requested|task)|users?\s+wants?|"
    r"prompts?|inputs?|incoming|presented|shown|existing|old|prior|default|current|document\s+order|reading\s+order|"
    r"retriever|bm25|if|suppos(?:e|ing)|assum(?:e|ing)|perhaps|maybe|possibl[ey]|hypothetical(?:ly)?|one\s+could|"
    r"placeholder|sample|looks?\s+like|inverse|reversed|anti-?ranking|unranked|impossible|differs?|differing|unclear|"
    r"unknown|unavailable|unable|declined?|refused?|without|could\s+be|might\s+be|says?|said|states?|claims?|suggests?|"
    r"instructs?|quotes?)\b|n't\b|\bcant\b|[\])\w][ \t]*[<>][ \t]*[\[(\w]|"
    r"(?<!to )(?<!to the )\b(?:low(?:est)?|bottom|worst|least|poorly)\b",
    re.IGNORECASE,
)

_RELEVANT = r"(?:relevant|good|useful|helpful|likely|much|important|well|valid|informative|strong|bad|irrelevant|close)"
TIED = re.compile(
    r"\b(?:tied?|ties|tying|equal(?:s|ly|led)?|equivalent(?:ly)?|identical(?:ly)?|interchangeabl[ey]|indistinguishable|"
    r"comparabl[ey]|on\s+(?:a\s+)?par|toss-?up|neck\s+and\s+neck|a\s+draw|alike|coin\s+(?:flip|toss)|"
    r"(?:all|both|each|just|much|exactly|about|roughly)\s+the\s+same|(?:are|is|they're|score|rank(?:ed)?)\s+the\s+same|"
    r"same\s+(?:relevance|relevancy|rank(?:ing)?|scores?|place|position|level|importance|weight|value|degree|extent|"
    r"usefulness|quality|amount|footing)|the\s+same\s*$|"
    rf"(?:just|every\s+bit)\s+as\s+{_RELEVANT}|(?<!not\s)(?<!n't\s)(?<!never\s)as\s+{_RELEVANT}\s+as|"
    r"(?:no|little|hardly\s+any|without\s+any)\s+(?:\w+\s+){0,2}?(?:differences?|preference|distinction|winner|"
    r"ordering|order|ranking)|(?:in|of)\s+any\s+order|no\s+way\s+to|"
    rf"(?:similarly|roughly|nearly|almost)\s+{_RELEVANT}|differ\s+little|(?:not|\w+n't)\s+(?:differ|distinguish)|"
    r"gleich(?:wertig|ermaßen|auf)?|unentschieden|empate|empatad[oa]s|igual(?:es|mente|i)?|iguais|égaux|égalité|ex\s+aequo|"
    r"pareggio|parimenti)\b|一样|相同|同样|同等|并列|平局|相等|同じ|同等|동일|동점",
    re.IGNORECASE,
)
# What takes a list back, or says that it is no ranking, in the words after it: wherever a sentence says so, ...
_AS_SHOWN = (
    r"(?:shown|given|presented|provided|listed|received|appear(?:s|ed)?|came|input|supplied|seen|displayed|numbered|"
    r"passed|sent|asked)"
)
_UNRANKED = (
    r"(?:input|original|given|initial|presented|shown|prompt(?:'s)?|provided|supplied|default|retrieval|document|"
    r"listed|listing|alphabetical|chronological|random|arbitrary|reversed?|opposite|existing|incoming|numerical|numeric|"
    r"natural|reading|sequential|particular|specific|inverse|wrong)"
)
AGAINST = re.compile(
    r"\b(?:scratch\s+that|strike\s+that|never\s*mind|second\s+thoughts?|disregard|kidding|joking|a\s+joke|"
    r"made\s+(?:it|this|that|them|these|all)\b.{0,20}\bup|made[\s-]up|(?:my|by|a)\s+mistake|mistaken(?:ly)?|"
    r"take\s+(?:it|this|that)\s+back|changed?\s+my\s+mind|let\s+me\s+(?:re|fix|correct|try|think|double|revise)\w*|"
    r"(?:do\s+not|don't|please\s+don't)\s+(?:trust|use|rely|count|take|read)|read\s+(?:it|this|them)\s+(?:from|in|the)|"
    r"ignore\s+(?:that|this|it|the\s+(?:above|ranking|list|order))|"
    r"(?:is|was|are|were|be|seems?|it's|that's|looks?|completely|entirely|purely|essentially)\s+(?:\w+\s+){0,2}?"
    r"(?:incorrect|invalid|backwards?|reversed|inverted|arbitrary|random|meaningless|fake|guess(?:work)?|unsorted|"
    r"unranked|alphabetical|chronological|hypothetical|placeholder|wrong)|"
    rf"{_UNRANKED}\s+(?:order|ordering|sequence|ranking)|"
    rf"(?:order|ordering|sequence|list|ranking|way)\b[^.\n]{{0,40}}?\b{_AS_SHOWN}|"
    rf"as\s+(?:they\s+|you\s+|it\s+)?(?:were\s+|was\s+|are\s+|have\s+)?{_AS_SHOWN}(?=\s*(?:$|[.,;!)]|in\b|to\b|by\b|above))|"
    r"(?:order|ordering|sequence|list|ranking|result)\s+(?:[\w']+\s+){0,4}?(?:unchanged|meaningless|matters?|nothing|arbitrar\w*|"
    r"random\w*|example|guess\w*|placeholder|template|wrong|reversed|backwards?)|"
    r"(?:as|like)\s+in\s+(?:the|your)\s+(?:prompt|input|question|list|request)|(?:the|your)\s+prompt(?:'s)?\b|"
    r"(?:listed|left|kept|took|copied)\s+(?:them|these|it|the\s+(?:list|order|passages))|as[\s-]is(?=\W*$)|"
    r"at\s+random|randomly|arbitrarily|alphabetically|chronologically|by\s+default|placeholders?|unchanged|"
    r"(?:just|only|merely|simply)\s+(?:an?\s+)?(?:example|guess|illustration|template|sample|placeholder)|"
    r"(?:asks|asked|tells|told|instructs|instructed|ordered|requests|requested|demands|demanded|wants|wanted|commands|"
    r"commanded|requires|required)\s+(?:me|us|you|that)|"
    r"(?:contain|give|gave|include|demand|request|say|said|state|quote|provide|suggest)(?:s|ed)?\s+(?:this|the\s+above|that)\s+"
    r"(?:list|order|ranking|answer)|"
    r"(?:real|actual|proper|true|genuine|different|another|better)\s+(?:ranking|order|list)|"
    r"confidence\W+(?:0(?!\.?\d)|zero|none)|"
    r"(?:reasons?|explanation|basis|criteri\w+|method)\s*:\s*(?:random|none|n/?a|unknown|arbitrary|no\s+reason)|"
    r"for\s+(?:illustration|demonstration|example\s+only)|swapped|bottom[\s-]up|right\s+to\s+left|vice\s+versa|"
    r"the\s+(?:reverse|opposite)|other\s+way\s+(?:a)?round|"
    r"(?:not|isn't|wasn't|never)\s+(?:\w+\s+){0,2}?(?:ranking|ranked|ordering|ordered|sorted|my\s+answer|final|in\s+order)|"
    r"(?:can't|cannot|can\s+not|couldn't|could\s+not|unable\s+to|impossible\s+to|hard\s+to|difficult\s+to|failed\s+to|"
    r"refuse\s+to|decline\s+to|won't|didn't|did\s+not|haven't|have\s+not)\s+(?:\w+\s+){0,2}?"
    r"(?:rank|tell|say|decide|order|distinguish|sort|judge|determine|choose|compare|read|differentiate|separate)|"
    r"eingabereihenfolge|reihenfolge\s+der\s+eingabe|falsch|zufällig|egal|al\s+azar|aleatori[oa]|equivocad[oa]|"
    r"incorrect[oa]|au\s+hasard|orden\s+(?:de\s+entrada|original|dado)|ordre\s+(?:donné|initial|d'entrée))\b|"
    r"输入顺序|原始顺序|给定顺序|随机|错了|不对|入力順",
    re.IGNORECASE,
)
# ... or where it begins so.
TAKES_BACK = re.compile(
    r"(?:but\s+|and\s+|or\s+|well,?\s+)?(?:actually|no(?:\s*(?:[,.!]|$)|\s+wait)|nope|nah|wait|hm+|oops|whoops|sorry|apologies|"
    r"my\s+(?:bad|apologies)|correction|scratch|strike|forget|ignore|jk|lol|psych|on\s+(?:reflection|reconsideration|closer)|"
    r"upon\s+(?:reflection|closer|further|review)|come\s+to\s+think|hold\s+on|hang\s+on|maybe|perhaps|or\s+rather|"
    r"not\s+(?:really|quite|sure|so)|unless|instead|i\s+(?:take|made|meant|mis\w+|guess\w*|retract|withdraw|changed?|"
    r"regret|lied|just|simply|only|have\s+no|doubt))\b",
    re.IGNORECASE,
)
_WORST = r"(?:worst|least|lowest|weakest|poorest|bottom)"
_BEST = r"(?:best|most|highest|strongest|top)"
_GAP = r"(?:[\s_-]{1,3}[^\W_]{1,20}){0,3}?[\s_-]{1,3}"
_STOP = r"(?=[\s_]*(?:[.,:;)\]\"'\n]|$))"
REVERSED = re.compile(
    rf"{_WORST}{_GAP}(?:to|until|>)[\s_-]{{1,3}}(?:the[\s_-]{{1,3}})?(?:[^\W_]{{1,20}}[\s_-]{{1,3}})?{_BEST}"
    rf"|{_WORST}{_GAP}(?:first{_STOP}|at[\s_]the[\s_](?:top|front|beginning)\b|on[\s_]top\b)"
    rf"|(?:start|begin)(?:s|ning|ing)?[\s_](?:with|from|at)[\s_](?:the[\s_])?{_WORST}"
    rf"|{_BEST}{_GAP}(?:last{_STOP}|at[\s_]the[\s_](?:bottom|end)\b)"
    r"|\bascending\b|\bincreasing[\s_](?:order|relevance|importance|rank)|\brevers(?:e|ed)[\s_](?:order|ranking)"
    r"|\bbackwards?[\s_](?:order|ranking)|\b(?:ranked|sorted|ordered|listed)[\s_]backwards?\b"
    r"|\blast\s+to\s+first\b|\bbottom\s+to\s+top\b|\baufsteigend|\bwenigsten\b.{0,30}\bmeisten\b|\bschlechtest\w+\b.{0,20}\bbesten\b|\bascendente\b|\bcroissant\b"
    r"|\bmenos\b.{0,20}\b(?:a\s+m[áa]s|ao\s+mais)\b|\bpeor\b.{0,10}\bmejor\b|\bdu\s+moins\b.{0,20}\bau\s+plus\b"
    r"|\bdal\s+meno\b.{0,20}\bal\s+pi[ùu]\b|从低到高|由低到高|从最不相关|从差到好|升序|昇順|低い順",
    re.IGNORECASE,
)
_TOKEN = re.compile(r"[^\W\d_]+(?:['_-][^\W\d_]+)*|\d+")


def are_allowed(text: str) -> bool:
    """Whether a text has no word but those that may lead a list in; numbers only before what is ranked."""
    counted = re.sub(rf"\b(?:top[\s-]+\d{{1,3}}\b|\d{{1,3}}(?=\s*{NOUNS}))", " ", text.lower())
    return all(token in WORDS or _UNSPACED.fullmatch(token) or _is_noun(token) for token in _TOKEN.findall(counted))


def _is_noun(token: str) -> bool:
    return re.fullmatch(NOUNS, token) is not None
