{#- Keys that stand more than once. `read_from` (a lake table and the column of its second dimension)
    leaves out what an earlier build has read and tested. -#}
{% test unique_together(model, columns, read_from=none) %}
select {{ columns | join(', ') }}, count(*) as rows_found
from {{ model }}
{% if read_from %}where {{ verdicts_have_changed(*read_from) }}{% endif %}
group by {{ columns | join(', ') }}
having count(*) > 1
{% endtest %}
