{#- Rows for which the expression is false or null. -#}
{% test holds(model, expression) %}
select * from {{ model }}
where ({{ expression }}) is not true
{% endtest %}
