-- One row a sample and turn that ask the same; which subsets hold the sample nevertheless.
with chosen as (
    select dataset, sample_id, list(selector order by selector) as selectors
    from {{ source('lake', 'selected_subset') }}
    group by dataset, sample_id
)

select
    contaminated.dataset, contaminated.sample_id, sample.instruction, contaminated.benchmark,
    contaminated.question_id, contaminated.turn,
    question.turns[contaminated.turn + 1] as question,
    contaminated.match,
    contaminated.text,
    coalesce(chosen.selectors, []::varchar[]) as chosen_by,
    case
        when question.turns is null
            then 'the benchmark has changed since; materialize contaminated_samples again'
    end as note
from {{ source('lake', 'contaminated_samples') }} as contaminated
left join {{ source('lake', 'raw_dataset') }} as sample using (dataset, sample_id)
left join {{ source('lake', 'benchmark_questions') }} as question using (benchmark, question_id)
left join chosen using (dataset, sample_id)
order by dataset, benchmark, question_id, turn, sample_id
