-- A sample that no run chose and the subset does not have has no row: its inclusion is 0.
with runs as (
    select dataset, avg(unscored / nullif(candidates, 0)) as unscored
    from {{ source('lake', 'stability_runs') }}
    group by dataset
)

select
    stability.dataset, stability.sample_id, sample.row, sample.instruction, stability.chosen,
    stability.times, stability.runs, stability.inclusion,
    case
        when runs.unscored > 0.1
            then
                'of the candidates of these runs '
                || round(100 * runs.unscored)::int
                || ' % were never compared in their cluster; they rank last there'
    end as note
from {{ source('lake', 'stability_samples') }} as stability
left join {{ source('lake', 'raw_dataset') }} as sample using (dataset, sample_id)
left join runs using (dataset)
order by stability.dataset, stability.inclusion desc, sample.row
