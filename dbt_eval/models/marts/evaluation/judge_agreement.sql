-- All verdicts count, those of results that may not be published too: this is about the judges.
select
    benchmark, judge_a, judge_b, turn, with_ties, votes, agree, agree_pct, kappa,
    {{ filled_by_embedded(['judge_a', 'judge_b']) }} as filled_by_embedded,
    {{ embedded_note(['judge_a', 'judge_b']) }} as note
from {{ ref('agreements') }}
order by benchmark, judge_a, judge_b, turn, with_ties
