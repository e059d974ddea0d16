"""Looks of every report page."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root{color-scheme:light dark;--page:#fff;--ink:#1c2024;--soft:#5b636c;--faint:#c9cdd3;--card:#f4f6f8;--good:#0a7a33;
--bad:#b00020;--mark:#fff1cc}
@media(prefers-color-scheme:dark){:root{--page:#15181b;--ink:#e8eaed;--soft:#a2aab3;--faint:#4a5058;--card:#1f2327;
--good:#5fd38d;--bad:#ff8a94;--mark:#4a3d12}}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:64rem;margin:0 auto;padding:1rem}
h1{font-size:1.5rem;overflow-wrap:anywhere}h2{font-size:1.15rem;margin:2rem 0 .25rem}
h3{font-size:1rem;margin:1.25rem 0 .25rem}
.note,small{color:var(--soft)}.note{font-size:.87rem;margin:.25rem 0}.ok{color:var(--good)}
.bad{color:var(--bad);font-weight:600}code{font-size:.87em;overflow-wrap:anywhere}
.wide{overflow-x:auto}table{border-collapse:collapse;margin:.5rem 0;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .7rem .25rem 0;border-bottom:1px solid var(--faint);text-align:left;vertical-align:top}
thead th{color:var(--soft);font-weight:600;font-size:.87rem}.answers td{min-width:9rem}.moved{background:var(--mark)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(11rem,1fr));gap:.75rem;margin:1rem 0}
.cards div{background:var(--card);border-radius:.5rem;padding:.75rem}
.cards strong{display:block;font-size:1.5rem}.cards span,.cards small{display:block;font-size:.87rem}
figure{margin:.5rem 0}svg{display:block;width:100%;max-width:44rem;height:auto}summary{cursor:pointer}
@media print{:root{color-scheme:light;--page:#fff;--ink:#000;--soft:#444;--faint:#bbb;--card:#f4f6f8;--good:#0a7a33;
--bad:#b00020;--mark:#fff1cc}body{font-size:10pt}.wide{overflow:visible}table{font-size:8pt}
section,figure,tr{break-inside:avoid}}
"""
"""Prefers nothing but the reader's own light or dark setting; paper is light."""
