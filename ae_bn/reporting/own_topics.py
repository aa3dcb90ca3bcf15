"""The topics of your own text, for ``ae-bn topics``: a table, and a page with a map."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from ae_bn.evaluation.topics import TOP, in_documents, npmi, top_words, unique_share
from ae_bn.reporting.inspection import MAPPED
from ae_bn.reporting.own_text import colors_of, document_map, page

TYPICAL = 3  # documents of a topic
NAMED = 3  # words that stand for a topic
STYLE = """\
table { border-collapse: collapse; } td, th { padding: .4em .8em; vertical-align: top;
text-align: left; border-top: 1px solid #ddd; } .number { text-align: right; }
.dot { font-size: 20px; line-height: 16px; } .documents { color: #555; font-size: 13px; }
.documents div { margin-bottom: .2em; overflow-wrap: anywhere; }
@media (max-width: 700px) { thead { display: none; } table, tbody { display: block; }
tr { display: flex; flex-wrap: wrap; border-top: 1px solid #ddd; padding: .6em 0; }
td { border: 0; padding: .1em .8em .1em 0; } .words, .documents { flex-basis: 100%; }
.words { font-size: 16px; padding: .3em 0; } td[title]::before { content: attr(title) " "; } }
"""
PAGE = """\
<h1>{{ topics|length }} topics in {{ "{:,}".format(n) }} documents</h1>
<p>Coherence is {{ "%.3f"|format(coherence) }} on average, and {{ "%.0f"|format(100 * unique) }} %
of the {{ top }} top words of all topics are different ones. Below the topics is a
<a href="#map">map of documents</a>.</p>
<p><b>Share</b>: mean share of the topic in a document. <b>Coherence</b>: do its top {{ top }} words
occur in the same documents (NPMI, from -1 to 1; 0 by chance)? <b>Typical documents</b>: those with
the largest share of the topic, and that share.</p>
<table>
<thead><tr><th></th><th>topic</th><th>share</th><th>coherence</th><th>words</th>
<th>typical documents</th></tr></thead>
<tbody>
{%- for topic in topics %}
<tr id="{{ topic.number }}"><td class="dot" style="color: {{ colors[topic.number] }}">&#9679;</td>
<td class="number" title="topic">{{ topic.number }}</td>
<td class="number" title="share">{{ "%.3f"|format(topic.share) }}</td>
<td class="number" title="coherence">{{ "%.3f"|format(topic.coherence) }}</td>
<td class="words">{{ topic.words|join(" ") }}</td>
<td class="documents">{% for row in topic.documents %}
<div><b>{{ names[row] }}</b> ({{ "%.2f"|format(theta[row, topic.number]) }}): {{ texts[row] }}</div>
{%- endfor %}</td></tr>
{%- endfor %}
</tbody>
</table>
<h2 id="map">Map of {{ "{:,}".format(mapped) }} documents{{ " drawn at random" if mapped < n }}</h2>
<p>Near documents have similar topics (t-SNE of cosines). The colour is that of the topic with the
largest share, and the topic's number is in the middle of its documents; colours repeat after 20
topics. Rest the pointer on a document to read its first words.</p>
{{ map }}
<div class="labels">
{%- for topic in topics %}
<div><span style="color: {{ colors[topic.number] }}">&#9679;</span>
<a href="#{{ topic.number }}">{{ topic.number }}</a> {{ called[topic.number] }}</div>
{%- endfor %}
</div>
</body></html>
"""


class Topic(NamedTuple):
    """A topic of a text."""

    number: int  # from 0: the unit of the codes
    share: float  # mean over documents
    coherence: float  # NPMI by documents
    words: list  # of str, the top words
    documents: np.ndarray  # rows of the documents with the largest share


def describe_topics(theta: np.ndarray, X, rows: np.ndarray, words: list[str]) -> list[Topic]:
    """Return the topics of a text, those with the largest share first.

    Documents without a word of the vocabulary say nothing about topics and are left out.

    Parameters
    ----------
    theta : ndarray, (n, n_topics)
        The shares of the topics in the documents.
    X : csr_matrix, (n, n_words)
        The documents, at least one of them with a word.
    rows : ndarray, (n_topics, n_words)
        A number for each topic and word, see `ae_bn.evaluation.topics.topic_rows`.
    words : list of str, (n_words,)
        The vocabulary, at least two words.
    """
    known = np.flatnonzero(np.diff(X.indptr))
    top = top_words(rows)
    coherence = npmi(in_documents(X[known], top), top)
    share = theta[known].mean(axis=0)
    topics = []
    for k in np.argsort(-share, kind="stable").tolist():
        typical = known[np.argsort(-theta[known, k], kind="stable")[:TYPICAL]]
        chosen = [words[number] for number in top[k]]
        topics.append(Topic(k, float(share[k]), float(coherence[k]), chosen, typical))
    return topics


def topics_table(topics: list[Topic], names: list[str]) -> pd.DataFrame:
    """Return a row for each topic, with the names of its typical documents.

    Parameters
    ----------
    topics : list of Topic
        The topics, see `describe_topics`.
    names : list of str, (n,)
        The names of the documents.
    """
    return pd.DataFrame(
        {
            "topic": [topic.number for topic in topics],
            "share": [topic.share for topic in topics],
            "coherence": [topic.coherence for topic in topics],
            "words": [" ".join(topic.words) for topic in topics],
            "documents": ["; ".join(names[row] for row in topic.documents) for topic in topics],
        }
    )


def topics_page(
    topics: list[Topic],
    theta: np.ndarray,
    names: list[str],
    texts: list[str],
    labels: list[str],
    seed: int,
) -> str:
    """Return a page with the topics and a map of the documents.

    Parameters
    ----------
    topics : list of Topic
        The topics, see `describe_topics`.
    theta : ndarray, (n, n_topics)
        The shares of the topics in the documents.
    names, texts, labels : list of str, (n,)
        The documents' names, what to show of them, and their labels; no labels are an empty list.
    seed : int
        The seed of the map.

    Returns
    -------
    str
        HTML that needs neither a network nor scripts.
    """
    colors = colors_of([topic.number for topic in topics])
    called = {topic.number: " ".join(topic.words[:NAMED]) for topic in topics}
    main = theta.argmax(axis=1).tolist()
    titles = [f"topic {k} ({called[k]}): {text}" for k, text in zip(main, texts)]
    if labels:
        titles = [f"{label}, {title}" for label, title in zip(labels, titles)]
    return page(
        "Topics",
        PAGE,
        STYLE,
        topics=topics,
        theta=theta,
        names=names,
        texts=texts,
        colors=colors,
        called=called,
        n=len(names),
        mapped=min(len(names), MAPPED),
        top=TOP,
        coherence=np.mean([topic.coherence for topic in topics]),
        unique=unique_share(np.array([topic.words for topic in topics])),
        map=document_map(theta, titles, [colors[k] for k in main], seed, groups=main),
    )
