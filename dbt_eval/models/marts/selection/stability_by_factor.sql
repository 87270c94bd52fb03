select
    dataset,
    factor,
    count(*) as runs,
    count(*) filter (failed is not null) as failed,
    avg(jaccard) as mean_jaccard,
    min(jaccard) as lowest_jaccard,
    avg(unscored / nullif(candidates, 0)) as unscored_share,
    case
        when count(*) filter (failed is not null) > 0
            then count(*) filter (failed is not null) || ' runs failed: ' || any_value(failed)
    end as note
from {{ source('lake', 'stability_runs') }}
group by dataset, factor
order by dataset, factor
