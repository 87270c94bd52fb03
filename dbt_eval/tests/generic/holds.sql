{#- Rows for which the expression is false or null; `read_from` as in `unique_together`. -#}
{% test holds(model, expression, read_from=none) %}
select * from {{ model }}
where ({{ expression }}) is not true
{% if read_from %}and {{ verdicts_have_changed(*read_from) }}{% endif %}
{% endtest %}
