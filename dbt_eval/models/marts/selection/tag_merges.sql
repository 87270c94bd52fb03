-- A step that left a tag as it was is not told; one that dropped it is.
with taggers as (
    select dataset, string_agg(distinct model, ', ' order by model) as tagger_model
    from {{ source('lake', 'open_tags') }}
    group by dataset
),

merges as (
    select
        dataset,
        normalized_tag,
        raw_tag,
        max(count) as samples,
        coalesce(
            string_agg(
                case
                    when became is null then step || ' dropped "' || tag || '"'
                    else step || ': "' || tag || '" became "' || became || '"'
                end,
                '; '
                order by place
            ) filter (became is null or became <> tag),
            'unchanged'
        ) as why,
        max(step) filter (became is null) as dropped_by
    from {{ source('lake', 'tag_lineage') }}
    -- Rows of 0.1.0 do not tell steps; they are written anew with the dataset's next run.
    where step is not null
    group by dataset, normalized_tag, raw_tag
)

select
    merges.*,
    taggers.tagger_model,
    {{ filled_by_embedded(['taggers.tagger_model']) }} as filled_by_embedded,
    {{ embedded_note(['taggers.tagger_model']) }} as note
from merges
left join taggers using (dataset)
order by dataset, samples desc, raw_tag
